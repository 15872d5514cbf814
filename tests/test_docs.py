"""The README and docs speak of commands, options and pages that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
from twisted.python import usage
from twisted.scripts.twistd import ServerOptions
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import tests
from peerstore.cli.commands import cli
from peerstore.node.tap import Options as NodeOptions
from peerstore.sim.main import cli as sim
from peerstore.sync.tap import Options as SyncOptions

ROOT = Path(tests.__file__).resolve().parent.parent
SERVICES: dict[str, type[usage.Options]] = {"peerstore-node": NodeOptions, "peerstore-sync": SyncOptions}
PROGRAMS = ("peerstore", "twistd", "peerstore-sim")
#: Languages of fenced blocks that hold command lines.
SHELL, CONSOLE = "sh", "console"
#: Places of the machine or of the people who wrote the text; a reader has neither.
NOT_OURS = re.compile(
    r"(?<![\w./~-])/(?:work|tmp|root|build|workspace)(?:/|\b)|(?<![\w./~-])/(?:home/(?!ann\b)|Users/)\w+"
)


class Said(NamedTuple):
    """A command line, and where it is."""

    where: str
    line: str


def pages() -> list[Path]:
    """Every page that people read."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "benchmarks").glob("*.md"))]


def blocks(text: str) -> Iterator[tuple[int, str, str]]:
    """(line number, language, content) of each fenced block."""
    for found in re.finditer(r"^```([^\n]*)\n(.*?)^```\s*$", text, re.M | re.S):
        yield text.count("\n", 0, found.start()) + 1, found[1].strip(), found[2]


def simple_commands(line: str) -> Iterator[str]:
    """The commands that a shell would make of a line, without their pipes."""
    for part in re.split(r"\s*(?:&&|\|\||;|\||(?<=\s)&(?=\s|$))\s*", line):
        yield re.sub(r"\s*\d*>>?\s*\S+", "", part).strip()


def commands_in(where: str, text: str) -> Iterator[Said]:
    """Every command line of ours: in blocks, and between single backticks."""
    for number, language, content in blocks(text):
        for offset, raw in enumerate(content.splitlines(), 1):
            line = raw
            if language == CONSOLE:
                prompt = re.match(r"(?:[a-z]+)?\$ ", raw)
                if prompt is None:
                    continue
                line = raw[prompt.end() :]
            elif language != SHELL:
                continue
            for command in simple_commands(line):
                yield Said(f"{where}:{number + offset}", command)
    prose = re.sub(r"^```.*?^```\s*$", lambda found: "\n" * found[0].count("\n"), text, flags=re.M | re.S)
    for found in re.finditer(r"(?<!`)`([^`]+)`(?!`)", prose):
        for command in simple_commands(" ".join(found[1].split())):
            yield Said(f"{where}:{prose.count(chr(10), 0, found.start()) + 1}", command)


def units_in(where: str, text: str) -> Iterator[Said]:
    """The command lines of a systemd unit."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("ExecStart="):
            yield Said(f"{where}:{number}", line.removeprefix("ExecStart="))


def ours(line: str) -> list[str]:
    """The words of a command line of ours from the program's name on; none
    for any other line."""
    try:
        words = shlex.split(line.replace("…", ""), comments=True)
    except ValueError:
        return []
    while words and (words[0] == "sudo" or re.fullmatch(r"\w+=\S*", words[0])):
        words.pop(0)
    if not words:
        return []
    name = words[0].rsplit("/", 1)[-1]
    # A path such as release/peerstore_server names no command of ours.
    return [name, *words[1:]] if name in PROGRAMS else []


def wrong(words: list[str]) -> str:
    """What is wrong with a command line of ours; empty when nothing is."""
    if words[0] == "twistd":
        return wrong_of_twistd(words[1:])
    return wrong_of_click(cli if words[0] == "peerstore" else sim, words[1:])


def wrong_of_click(command: click.Command, words: list[str]) -> str:
    """Whether each option, and each verb down to the last, exists."""
    while True:
        known = {flag: option for option in command.params for flag in (*option.opts, *option.secondary_opts)}
        known |= dict.fromkeys(("--help", "-h"))
        verb = None
        while words:
            word = words.pop(0)
            if word == "--":
                return ""
            if not word.startswith("-") or word == "-":
                if isinstance(command, click.Group):
                    verb = word
                    break
                continue
            flag, has_value, _ = word.partition("=")
            if flag not in known:
                return f"{command.name} has no option {flag}"
            option = known[flag]
            if isinstance(option, click.Option) and not (option.is_flag or has_value) and words:
                words.pop(0)
        if verb is None or not isinstance(command, click.Group):
            return ""
        below = [command.commands.get(name) for name in verb.split("|")]
        if None in below:
            return f"{command.name} has no command {verb!r}"
        first = below[0]
        assert first is not None
        command = first


def names_of(options: usage.Options) -> dict[str, bool]:
    """{option as typed: whether a value follows}, as twistd itself sees it."""
    long = {f"--{name.rstrip('=')}": name.endswith("=") for name in options.longOpt}
    short: dict[str, bool] = {}
    letters = options.shortOpt
    for at, letter in enumerate(letters):
        if letter != ":":
            short[f"-{letter}"] = letters[at + 1 : at + 2] == ":"
    return {**long, **short}


def wrong_of_twistd(words: list[str]) -> str:
    """Whether twistd's own options, the service and its options exist."""
    name = "twistd"
    known = names_of(ServerOptions())
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            if name == "twistd":
                if word not in SERVICES:
                    return f"there is no service {word!r}" if word.startswith("peerstore") else ""
                name, known = word, names_of(SERVICES[word]())
            elif not word.startswith("$"):
                return f"{name} takes no argument {word!r}"
            continue
        flag, has_value, _ = word.partition("=")
        if flag not in known:
            return f"{name} has no option {flag}"
        if known[flag] and not has_value and words:
            words.pop(0)
    return ""


def heading_ids(text: str) -> set[str]:
    """What a link can point to within a page."""
    prose = re.sub(r"^```.*?^```\s*$", "", text, flags=re.M | re.S)
    titles = re.findall(r"^#+\s+(.*)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def option_rows(text: str, heading: str) -> set[str]:
    """The long options in the first column of the table under a heading."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `-")]
    return {flag for row in rows for flag in re.findall(r"--[\w-]+", row)}


class DocsCase(SynchronousTestCase):
    """Reads the pages once."""

    def setUp(self) -> None:
        if not (ROOT / "docs").is_dir():
            raise SkipTest("the docs are not part of an installed package")
        self.texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in pages()}

    def said(self) -> list[Said]:
        """All command lines of all pages and units."""
        found = [said for where, text in self.texts.items() for said in commands_in(where, text)]
        for path in sorted((ROOT / "contrib").rglob("*.service")):
            found += units_in(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        return found


class CommandTests(DocsCase):
    """Whatever is typed in the docs can be typed."""

    def test_every_command_and_option_exists(self) -> None:
        """Verbs and options are those that click and twistd know."""
        problems = []
        checked = 0
        for said in self.said():
            words = ours(said.line)
            if words:
                checked += 1
                what = wrong(words)
                if what:
                    problems.append(f"{said.where}: {what}: {said.line}")
        self.assertEqual(problems, [])
        self.assertGreater(checked, 80, "hardly any command was found: is this test still reading the pages?")

    def test_mistakes_would_be_found(self) -> None:
        """The check above knows a wrong line when it sees one."""
        for line in (
            "peerstore backupp DIR",
            "peerstore backup DIR --excluded x",
            "peerstore --hom x ls",
            "peerstore node lock DATA",
            "twistd peerstore-nod --listen x",
            "twistd -n peerstore-node --lisen x",
            "twistd --pidfil x peerstore-node",
            "twistd peerstore-sync --folder DIR stray",
            "peerstore-sim rings",
        ):
            self.assertNotEqual(wrong(ours(line)), "", line)
        for line in (
            "sudo /opt/bin/peerstore --json node keys DIR",
            ".venv/bin/peerstore demo",
            "PEERSTORE_HOME=x peerstore put - --as notes/today.txt",
            "twistd -n --pidfile= peerstore-node --listen tcp:1 --data ${DIR} $OPTIONS",
            "twistd --help",
            "peerstore-sim ring --seed 1",
        ):
            self.assertEqual(wrong(ours(line)), "", line)
        for line in ("pip install .", "release/peerstore_client-latest-linux-amd64 -x", "kill $(cat pid)"):
            self.assertEqual(ours(line), [], line)

    def test_options_named_alone_exist(self) -> None:
        """`--option` in running text is an option of some program here, or
        marked as another's by the page that names it."""
        known = set(names_of(NodeOptions())) | set(names_of(SyncOptions())) | set(names_of(ServerOptions()))
        known |= {flag for command in every_command(cli) for option in command.params for flag in option.opts}
        known |= {flag for command in every_command(sim) for option in command.params for flag in option.opts}
        for path in (ROOT / "benchmarks").glob("*.py"):
            known |= set(re.findall(r'"(--[a-z-]+)"', path.read_text(encoding="utf-8")))
        unknown = []
        for name in ("README.md", "docs/tutorial.md", "docs/operations.md", "benchmarks/README.md"):
            for flag in re.findall(r"(?<![`\w])`(--?[a-zA-Z][\w-]*)[^`\n]*`", self.texts[name]):
                if flag not in known:
                    unknown.append(f"{name}: {flag}")
        self.assertEqual(unknown, [])

    def test_the_tables_of_options_are_whole(self) -> None:
        """Operations explains every option of both services, and no other."""
        text = self.texts["docs/operations.md"]
        for heading, service in (("Options of a node", NodeOptions), ("Options of the sync daemon", SyncOptions)):
            flags = {f"--{name.rstrip('=')}" for name in service().longOpt} - {"--help", "--version"}
            self.assertEqual(option_rows(text, heading), flags)

    def test_every_verb_is_documented(self) -> None:
        """Each command of peerstore is shown or named somewhere."""
        every = "\n".join(self.texts.values())
        missing = [name for name in verbs(cli) if f"peerstore {name}" not in every]
        self.assertEqual(missing, [])

    def test_the_design_documents_flags_are_all_there(self) -> None:
        """Each flag of the user's document has its line in our table."""
        text = self.texts["docs/from-the-design-document.md"]
        rows = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| "))
        flags = (
            "addr initialPeerAddr dataPath logtostderr initialPeerKeyFile peerAddr peerKeyFile selfKeyFile operation"
        )
        flags += " localPath filename filedest"
        missing = [flag for flag in flags.split() if f"-{flag}" not in rows]
        self.assertEqual(missing, [])


class ExitStatusTests(DocsCase):
    """What scripts rely on is written down."""

    def test_every_status_is_in_the_table(self) -> None:
        """Each status that an error of ours ends with has its line."""
        from peerstore import errors
        from peerstore.cli.main import INTERRUPTED

        kinds = [getattr(errors, name) for name in errors.__all__]
        statuses = {kind.exit_status for kind in kinds} | {0, INTERRUPTED}
        section = self.texts["docs/operations.md"].split("## Commands: exit status")[1].split("\n## ")[0]
        told = {int(number) for number in re.findall(r"^\| (\d+) \|", section, re.M)}
        self.assertEqual(statuses - told, set())


class LinkTests(DocsCase):
    """Links lead somewhere, and the text is free of our own machines."""

    def test_every_relative_link_resolves(self) -> None:
        """Files exist, and so do the headings that links point to."""
        broken = []
        for name, text in self.texts.items():
            page = ROOT / name
            for target in re.findall(r"\]\(([^)\s]+)\)", text):
                if re.match(r"[a-z]+:", target):
                    continue
                path, _, fragment = target.partition("#")
                there = (page.parent / path).resolve() if path else page
                if not there.exists() or not there.is_relative_to(ROOT):
                    broken.append(f"{name}: {target}")
                elif fragment and fragment not in heading_ids(there.read_text(encoding="utf-8")):
                    broken.append(f"{name}: {target} (no such heading)")
        self.assertEqual(broken, [])

    def test_every_page_is_in_the_index(self) -> None:
        """No page of docs/ is lost."""
        listed = re.findall(r"^([a-z][\w-]*)$", self.texts["docs/index.md"], re.M)
        there = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
        self.assertEqual(set(listed), there)

    def test_no_paths_of_a_developers_machine(self) -> None:
        """Absolute paths are those that a reader makes or has."""
        found = []
        for name, text in self.texts.items():
            for number, line in enumerate(text.splitlines(), 1):
                if NOT_OURS.search(line):
                    found.append(f"{name}:{number}: {line}")
        self.assertEqual(found, [])

    def test_such_paths_would_be_found(self) -> None:
        """The pattern above matches what it should."""
        for line in ("in /tmp/x", "`/build`", "cd /root", "/home/bob/x", "(/Users/bob)"):
            self.assertTrue(NOT_OURS.search(line), line)
        for line in ("/srv/peerstore", "/home/ann/x", "~/tmp/x", "docs/build/", "a/tmp", "tour/home/key.pem"):
            self.assertIsNone(NOT_OURS.search(line), line)


def every_command(command: click.Command) -> Iterator[click.Command]:
    """A command and all below it."""
    yield command
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from every_command(below)


def verbs(group: Any, before: str = "") -> list[str]:
    """Names of all commands below a group, as typed."""
    found = []
    for name, command in group.commands.items():
        found += verbs(command, f"{before}{name} ") if isinstance(command, click.Group) else [before + name]
    return found
