/*
 * The least that a process can do with a queue of packets: it is given each with its connection's tuples, as a judge needs it,
 * and lets it go by NF_STOP. What the kernel and the switches between the two take is what every judge costs.
 *   queue NUMBER
 * Kinds and layouts: include/uapi/linux/netfilter/nfnetlink_queue.h.
 */
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static char out[256], in[70000];
static struct nlmsghdr *message = (struct nlmsghdr *)out;

static void begin(int type, uint16_t queue)
{
    struct nfgenmsg family = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(queue)};
    memset(out, 0, sizeof out);
    message->nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | type;
    message->nlmsg_flags = NLM_F_REQUEST;
    memcpy(NLMSG_DATA(message), &family, sizeof family);
    message->nlmsg_len = NLMSG_LENGTH(sizeof family);
}

static void put(int type, const void *value, size_t length)
{
    struct nlattr *attribute = (struct nlattr *)(out + NLMSG_ALIGN(message->nlmsg_len));
    attribute->nla_type = type;
    attribute->nla_len = NLA_HDRLEN + length;
    memcpy((char *)attribute + NLA_HDRLEN, value, length);
    message->nlmsg_len = NLMSG_ALIGN(message->nlmsg_len) + NLA_ALIGN(attribute->nla_len);
}

static void say(int fd)
{
    if (send(fd, out, message->nlmsg_len, 0) < 0)
        exit(1);
}

int main(int argc, char **argv)
{
    uint16_t queue = argc > 1 ? atoi(argv[1]) : 0;
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER), wait = epoll_create1(0);
    struct nfqnl_msg_config_cmd bind = {.command = NFQNL_CFG_CMD_BIND};
    struct nfqnl_msg_config_params whole = {.copy_range = htonl(65535), .copy_mode = NFQNL_COPY_PACKET};
    uint32_t flags = htonl(NFQA_CFG_F_CONNTRACK);
    struct epoll_event event = {.events = EPOLLIN};

    begin(NFQNL_MSG_CONFIG, queue);
    put(NFQA_CFG_CMD, &bind, sizeof bind);
    say(fd);
    begin(NFQNL_MSG_CONFIG, queue);
    put(NFQA_CFG_PARAMS, &whole, sizeof whole);
    put(NFQA_CFG_FLAGS, &flags, sizeof flags);
    put(NFQA_CFG_MASK, &flags, sizeof flags);
    say(fd);
    epoll_ctl(wait, EPOLL_CTL_ADD, fd, &event);
    for (;;) {
        struct nlmsghdr *got = (struct nlmsghdr *)in;
        struct nlattr *first = (struct nlattr *)(in + NLMSG_SPACE(sizeof(struct nfgenmsg)));
        epoll_wait(wait, &event, 1, -1);
        if (recv(fd, in, sizeof in, 0) <= 0 || got->nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET))
            continue;
        if (first->nla_type == NFQA_PACKET_HDR) {
            struct nfqnl_msg_verdict_hdr verdict = {.verdict = htonl(NF_STOP)};
            memcpy(&verdict.id, (char *)first + NLA_HDRLEN, sizeof verdict.id);
            begin(NFQNL_MSG_VERDICT, queue);
            put(NFQA_VERDICT_HDR, &verdict, sizeof verdict);
            say(fd);
        }
    }
}
