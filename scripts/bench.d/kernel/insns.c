/*
 * A plugin for QEMU's system emulation (Debian 12's 7.2, plugin interface 1) that counts the instructions of each block of
 * translated code in a file that others map, so that it can be read while the machine runs.
 *   -plugin insns.so,counts=PATH
 * The file: records of three u64 (address, instructions of the block, times it ran), in the order of translation. The first
 * has the number of records as its address, and counts the instructions of blocks that found no place.
 * QEMU's header is not in Debian's packages: what is used of it is declared here (docs/devel/tcg-plugins.rst).
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *, uint64_t);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

#define MOST 2000000
struct block {
    uint64_t address, instructions, count;
};
static struct block *blocks;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    uint64_t instructions = qemu_plugin_tb_n_insns(tb);
    uint64_t at = __atomic_add_fetch(&blocks[0].address, 1, __ATOMIC_RELAXED);

    (void)id;
    if (at >= MOST) {
        __atomic_store_n(&blocks[0].address, MOST - 1, __ATOMIC_RELAXED);
        qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &blocks[0].count, instructions);
        return;
    }
    blocks[at].address = qemu_plugin_tb_vaddr(tb);
    blocks[at].instructions = instructions;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &blocks[at].count, 1);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    const size_t size = MOST * sizeof(*blocks);
    int fd;

    (void)info;
    if (argc != 1 || strncmp(argv[0], "counts=", 7)) {
        fprintf(stderr, "insns: counts=PATH is wanted\n");
        return -1;
    }
    fd = open(argv[0] + 7, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size)) {
        perror(argv[0] + 7);
        return -1;
    }
    blocks = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (blocks == MAP_FAILED) {
        perror("insns: mmap");
        return -1;
    }
    blocks[0].instructions = 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
