"""Which of OpenWrt's architectures run the program of a target. The program is static, and soft-float where the floating point unit
differs between routers, so that one program serves all of a row; the package manager wants a package of the router's very name all the same."""

# The first of a row is the most common. A router says its own with `opkg print-architecture` or `cat /etc/apk/arch`.
ARCHES = {
    "mipsel-unknown-linux-musl": ["mipsel_24kc", "mipsel_24kc_24kf", "mipsel_74kc"],
    "mips-unknown-linux-musl": ["mips_24kc", "mips_4kec"],
    "armv7-unknown-linux-musleabi": [
        "arm_cortex-a7_neon-vfpv4",
        "arm_cortex-a5_vfpv4",
        "arm_cortex-a7",
        "arm_cortex-a7_vfpv4",
        "arm_cortex-a8_vfpv3",
        "arm_cortex-a9",
        "arm_cortex-a9_neon",
        "arm_cortex-a9_vfpv3-d16",
        "arm_cortex-a15_neon-vfpv4",
    ],
    "aarch64-unknown-linux-musl": [
        "aarch64_cortex-a53",
        "aarch64_cortex-a72",
        "aarch64_cortex-a76",
        "aarch64_generic",
    ],
    "x86_64-unknown-linux-musl": ["x86_64"],
}
