"""Checks the documentation: relative links and their anchors lead somewhere, every script that is named exists, and every
direct dependency has its row in README.md."""

import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def tracked():
    """Files of the repository, new ones included, ignored ones not."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]
    return [p for p in ROOT.rglob("*") if p.is_file() and not {"target", ".git"} & set(p.parts)]


def anchors(path):
    """The anchors of a Markdown page as the usual renderers make them."""
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", path.read_text(), re.M):
        text = re.sub(r"[`*]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return found


def check_links(page, fail):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        if not other.exists():
            fail(f"{page.relative_to(ROOT)}: {target} does not exist")
        elif anchor and other.suffix == ".md" and anchor not in anchors(other):
            fail(f"{page.relative_to(ROOT)}: {target} has no such heading")


def check_scripts(page, fail):
    for name in set(re.findall(r"(?<![\w/.])(?:\./)?(scripts/[a-z][\w-]*)", page.read_text())):
        if not (ROOT / name).exists():
            fail(f"{page.relative_to(ROOT)}: {name} does not exist")


def check_dependencies(fail):
    readme = (ROOT / "README.md").read_text()
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    for name in manifest["dependencies"].keys() | manifest.get("dev-dependencies", {}).keys():
        if not re.search(rf"^\| `{re.escape(name)}` \|", readme, re.M):
            fail(f"README.md: the dependency table has no row for {name}")


def main():
    faults, checked = [], 0
    for page in (p for p in tracked() if p.suffix == ".md"):
        before = len(faults)
        check_links(page, faults.append)
        check_scripts(page, faults.append)
        checked += len(faults) == before
    before = len(faults)
    check_dependencies(faults.append)
    checked += len(faults) == before
    for fault in faults:
        print(f"FAIL {fault}", file=sys.stderr)
    print(f"{checked} passed, {len(faults)} failed, 0 skipped")
    return 1 if faults else 0


sys.exit(main())
