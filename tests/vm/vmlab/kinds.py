"""The machines we boot, as plain data."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A machine: Debian's packages that it is made of, and how QEMU runs it."""

    name: str
    # Of Debian, and the suite whose kernel is wanted.
    architecture: str
    suite: str
    kernel: str
    # QEMU's program, the Debian package that has it, and its words for the machine.
    qemu: str
    qemu_package: str
    machine: tuple[str, ...]
    network: str
    console: str
    # Modules of the kernel, without those they need.
    modules: tuple[str, ...]
    # Where Debian keeps this architecture's libraries: for the programs of [`TOOLS`].
    triplet: str

    @property
    def dials(self):
        """Whether it has PPP, and gets the programs to dial in with."""
        return set(_PPP) <= set(self.modules)


# Debian's packages of the programs that look into the kernel, and of the libraries these need; all of bookworm.
TOOLS = ("nftables", "iproute2", "conntrack", "ethtool", "libc6", "libnftables1", "libnftnl11", "libmnl0", "libxtables12", "libjansson4",
         "libedit2", "libgmp10", "libbsd0", "libtinfo6", "libmd0", "libbpf1", "libelf1", "zlib1g", "libcap2", "libdb5.3", "libselinux1",
         "libpcre2-8-0", "libtirpc3", "libnetfilter-conntrack3", "libnfnetlink0", "iptables", "libip4tc2", "libip6tc2")  # fmt: skip
# iptables-nft is known by the name of what it is asked for; what it knows of TCP and of NAT lies beside it.
PROGRAMS = ("nft", "ip", "tc", "conntrack", "ethtool", "xtables-nft-multi", "libxt_tcp.so", "libxt_NAT.so")
# The same for a router that dials in.
DIAL_TOOLS = ("ppp", "libcrypt1", "libssl3", "libpam0g", "libaudit1", "libcap-ng0", "libpcap0.8", "libdbus-1-3", "libsystemd0", "libgcrypt20",
              "libgpg-error0", "liblz4-1", "liblzma5", "libzstd1")  # fmt: skip
DIAL_PROGRAMS = ("pppd", "pppoe.so")

_NETFILTER = ("nf_tables", "nft_ct", "nft_nat", "nft_chain_nat", "nft_masq", "nft_reject_inet", "nft_queue", "nfnetlink_queue",
              "nft_flow_offload", "nf_flow_table_inet", "nf_conntrack_netlink", "nft_limit", "nft_objref", "nft_fib_inet",
              "nft_redir", "nft_log", "nft_quota", "nft_connlimit", "nf_conntrack_ftp", "nft_numgen", "nft_hash", "nft_socket",
              "nft_compat", "xt_tcpudp", "xt_nat", "xt_REDIRECT",
              "veth", "bridge", "8021q", "dummy", "tun", "sch_htb", "sch_ingress", "cls_u32", "cls_flower", "cls_matchall", "cls_fw", "act_police",
              "sch_fq_codel", "sch_cake", "sch_netem", "sch_prio", "sch_tbf")  # fmt: skip

_PPP = ("pppoe",)


def _pc(name, suite, dials=False):
    # The kernel for clouds is a third of the size, and has no PPP.
    kernel, more = ("linux-image-amd64", _PPP) if dials else ("linux-image-cloud-amd64", ())
    return Kind(name, "amd64", suite, kernel, "qemu-system-x86_64", "qemu-system-x86",
                ("-M", "q35", "-cpu", "qemu64,-cx16"), "virtio-net-pci", "ttyS0",
                ("virtio_pci", "virtio_net", "crc32c_generic", *_NETFILTER, *more), "x86_64-linux-gnu")  # fmt: skip


KINDS = {
    kind.name: kind
    for kind in [
        # A router of 2015: one core of 32 bits, little-endian. Bookworm is the last Debian that has it.
        Kind("mipsel", "mipsel", "bookworm", "linux-image-4kc-malta", "qemu-system-mipsel", "qemu-system-mips",
             ("-M", "malta", "-cpu", "24Kc"), "e1000", "ttyS0", ("crc32c_generic", "e1000", *_NETFILTER), "mipsel-linux-gnu"),
        # The kernels of OpenWrt 23.05/24.10's neighbourhood: 6.1, and 6.12.
        _pc("x86_64", "bookworm"),
        _pc("x86_64-6.12", "bookworm-backports"),
        _pc("x86_64-dials", "bookworm", dials=True),
        _pc("x86_64-6.12-dials", "bookworm-backports", dials=True),
    ]
}  # fmt: skip
