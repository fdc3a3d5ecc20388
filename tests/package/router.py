"""A router's root file system, made small: busybox, and stand-ins for what OpenWrt brings, which note what they are asked to do.
`Router.opkg` does what opkg does with an .ipk, `Router.apk` what apk does with a package of version 3."""

import hashlib
import os
import pathlib
import shutil
import struct
import subprocess

from support import unpack_ipk

import adb
import apk

# OpenWrt's lib/functions.sh as far as a package's scripts use it.
FUNCTIONS = r"""
add_group_and_user() {
	local users
	users="$(cat "/lib/apk/packages/$pkgname.rusers" 2>/dev/null || sed -n 's/^Require-User: //p' "/usr/lib/opkg/info/$pkgname.control")"
	echo "user $users" >>/calls
}
listed() { grep -hs "^$1" "/usr/lib/opkg/info/$pkgname.list" "/lib/apk/packages/$pkgname.list" | sort -u; }
default_postinst() {
	local file
	[ -n "$pkgname" ] || { pkgname="$(basename "${1%.*}")"; add_group_and_user; }
	for file in $(listed /etc/uci-defaults/); do
		( [ -f "$file" ] && cd "$(dirname "$file")" && . "$file" ) && rm -f "$file"
	done
	for file in $(listed /etc/init.d/); do
		[ "$PKG_UPGRADE" = 1 ] || "$file" enable
		"$file" start
	done
}
default_prerm() {
	local file
	[ -n "$pkgname" ] || pkgname="$(basename "${1%.*}")"
	for file in $(listed /etc/init.d/); do
		[ "$PKG_UPGRADE" = 1 ] || "$file" disable
		"$file" stop
	done
}
"""
# rc.common, and procd's functions, which write what procd would be told.
RC_COMMON = r"""#!/bin/sh
. /lib/functions.sh
initscript=$1
action=$2
shift 2
note() { echo "$*" >>/calls; }
for name in open_instance close_instance set_param add_reload_trigger add_reload_interface_trigger send_signal; do
	eval "procd_$name() { note \"$name\" \"\$@\"; }"
done
procd_running() { [ -f "/running/$1.$2" ]; }
procd_add_validation() { note validation; "$@"; }
logger() { note logger "$@"; }
uci_load_validate() {
	note validate "$1" "$2" "$3" "$5"
	[ -n "$4" ] || return 0
	local enabled result=0
	enabled="$(uci -q get "$1.$3.enabled" || echo 0)"
	case $enabled in 0 | 1) ;; *) result=1 ;; esac
	"$4" "$3" "$result"
}
. "$initscript"
start() { note "start $USE_PROCD"; start_service "$@"; note set; }
stop() { note stop; }
enable() { note "enable S$START K$STOP"; }
disable() { note disable; }
reload() { reload_service "$@"; }
triggers() { service_triggers; }
$action "$@"
"""
# uci with a store of one line per option; `batch` and `commit` as uci-defaults use them.
UCI = r"""#!/bin/sh
[ "$1" = -q ] && shift
db=/uci
touch "$db"
name() { printf '%s' "$1" | tr -d "'"; }
case $1 in
get) grep -m1 "^$2=" "$db" | cut -d= -f2- | grep . ;;
set) key="${2%%=*}"; sed -i "\|^$key=|d" "$db"; echo "$key=$(name "${2#*=}")" >>"$db" ;;
delete) grep -q "^$2[.=]" "$db" || exit 1; sed -i "\|^$2[.=]|d" "$db" ;;
commit) echo "commit $2" >>/calls ;;
batch) while read -r verb rest; do "$0" "$verb" "$rest" || exit 1; done ;;
*) exit 255 ;;
esac
"""
NFT = '#!/bin/sh\necho "nft $*" >>/calls\n'
BUSYBOX = "/bin/busybox"


class Router:
    """A root file system in a directory."""

    def __init__(self, path):
        self.root = pathlib.Path(path)
        self.from_apk = {}
        for name in ("bin", "sbin", "usr/bin", "usr/sbin", "usr/lib/opkg/info", "lib", "etc/init.d", "tmp", "dev", "running"):
            (self.root / name).mkdir(parents=True)
        shutil.copy(BUSYBOX, self.root / "bin/busybox")
        applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
        for applet in applets:
            if applet != "busybox":
                (self.root / "bin" / applet).symlink_to("busybox")
        self.put("lib/functions.sh", FUNCTIONS, 0o644)
        self.put("etc/rc.common", RC_COMMON)
        self.put("sbin/uci", UCI)
        self.put("usr/sbin/nft", NFT)
        self.put("dev/null", "", 0o666)
        self.put("calls", "", 0o666)

    def put(self, path, text, mode=0o755):
        """Writes a file."""
        file = self.root / path
        if file.is_symlink():
            file.unlink()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def run(self, *words, check=True, **environment):
        """A program inside; its exit status."""
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment}
        done = subprocess.run(["chroot", str(self.root), *words], env=env, capture_output=True, text=True)
        if check and done.returncode:
            raise AssertionError(f"{words} ended with {done.returncode}: {done.stderr}")
        return done.returncode

    def calls(self):
        """What was asked for since the last time."""
        noted = (self.root / "calls").read_text().splitlines()
        self.put("calls", "", 0o666)
        return noted

    def uci(self):
        """The options that are set."""
        path = self.root / "uci"
        return dict(line.split("=", 1) for line in path.read_text().splitlines()) if path.exists() else {}

    def opkg(self, ipk, scratch):
        """Installs or upgrades: a conffile that was changed stays, and the new one lies beside it as NAME-opkg."""
        scratch.mkdir()
        data, control = unpack_ipk(ipk, scratch)
        info = self.root / "usr/lib/opkg/info"
        old = self.conffiles()
        upgrade = (info / "echomesh.list").exists()
        if upgrade:
            self.script("prerm", "upgrade", PKG_UPGRADE="1")
        for part in control.iterdir():
            shutil.copy(part, info / f"echomesh.{part.name}")
        kept = [p for p, known in old.items() if (self.root / p).exists() and sha256(self.root / p) != known]
        new = (control / "conffiles").read_text().split()
        (info / "conffile-hashes").write_text("".join(f"{p.lstrip('/')} {sha256(data / p.lstrip('/'))}\n" for p in new))
        paths = []
        for path in sorted(data.rglob("*")):
            inside = str(path.relative_to(data))
            if path.is_dir():
                (self.root / inside).mkdir(exist_ok=True)
                continue
            paths.append(f"/{inside}")
            shutil.copy2(path, self.root / (f"{inside}-opkg" if inside in kept else inside))
        (info / "echomesh.list").write_text("".join(f"{p}\n" for p in paths))
        if upgrade:
            self.script("postrm", "upgrade", PKG_UPGRADE="1")
        self.script("postinst", "configure", PKG_UPGRADE="1" if upgrade else "0")

    def opkg_remove(self):
        """Removes: changed conffiles stay."""
        self.script("prerm", "remove", PKG_UPGRADE="0")
        info = self.root / "usr/lib/opkg/info"
        known = self.conffiles()
        for path in (info / "echomesh.list").read_text().split():
            inside = path.lstrip("/")
            file = self.root / inside
            if file.exists() and not (inside in known and sha256(file) != known[inside]):
                file.unlink()
        self.script("postrm", "remove", PKG_UPGRADE="0")
        for file in info.iterdir():
            file.unlink()

    def conffiles(self):
        listed = self.root / "usr/lib/opkg/info/conffile-hashes"
        return dict(line.split() for line in listed.read_text().splitlines()) if listed.exists() else {}

    def script(self, name, word, **environment):
        self.run(f"/usr/lib/opkg/info/echomesh.{name}", word, **environment)

    def apk(self, package, upgrade=False):
        """Unpacks by the places in the database, and runs the script. Files under etc that were changed stay, and the new one lies
        beside them as NAME.apk-new."""
        _, blocks = adb.open_container(package.read_bytes())
        database = adb.values(blocks[0][1])
        for row in database[apk.PKG_PATHS][1:]:
            (self.root / (row[apk.DIR_NAME] or b"").decode()).mkdir(exist_ok=True)
        for kind, payload in blocks:
            if kind != adb.DATA:
                continue
            at, place = struct.unpack_from("<II", payload)
            row = database[apk.PKG_PATHS][at]
            inside = f"{row[apk.DIR_NAME].decode()}/{row[apk.DIR_FILES][place][apk.FILE_NAME].decode()}"
            known, self.from_apk[inside] = self.from_apk.get(inside), hashlib.sha256(payload[8:]).hexdigest()
            if inside.startswith("etc/") and (self.root / inside).exists() and sha256(self.root / inside) != known:
                inside += ".apk-new"
            (self.root / inside).write_bytes(payload[8:])
            os.chmod(self.root / inside, row[apk.DIR_FILES][place][apk.FILE_ACL][apk.ACL_MODE])
        self.apk_script(database, apk.POST_UPGRADE if upgrade else apk.POST_INSTALL)
        return database

    def apk_script(self, database, place):
        self.put("tmp/script", database[apk.PKG_SCRIPTS][place].decode())
        self.run("/tmp/script")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
