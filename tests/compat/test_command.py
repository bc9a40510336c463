"""`python -m optx_compat`: what it lists and writes."""

import json
import subprocess
import sys

import pytest

from optx_compat.__main__ import main
from optx_compat._rewrite import rewrite
from optx_compat._table import DIFFERS
from optx_compat._uses import Program


def rewritten(source):
    return rewrite(Program(source.encode())).decode()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import optax\noptax.adam(1)\n", "import optx_aliases\noptx_aliases.adam(1)\n"),
        ("import optax as ox, jax\nox.tree.add\n", "import optx_core\nimport jax\noptx_core.tree.add\n"),
        ("from optax import adam as a, clip\n", "from optx_aliases import adam as a\nfrom optx_core import clip\n"),
        ("from optax import multi_transform\n", "from optx_core import partition as multi_transform\n"),
        ("from optax import losses\nlosses.l2_loss\n", "import optx_losses\noptx_losses.l2_loss\n"),
        ("import optax.contrib as c\nc.muon . x\n", "import optx_aliases\noptx_aliases.muon . x\n"),
        ("import optax.losses\noptax.sgd\n", "import optx_aliases\noptx_aliases.sgd\n"),
        # an import that is already there is not repeated, unless it may not have run
        ("import optax\nfrom optax import contrib\noptax.sgd, contrib.muon\n",
         "import optx_aliases\noptx_aliases.sgd, optx_aliases.muon\n"),
        ("import optax\nfrom optax import contrib  # why\nx = 1; from optax import schedules\noptax.sgd, contrib.muon\n",
         "import optx_aliases\n  # why\nx = 1; import optx_compat.schedules as schedules\noptx_aliases.sgd, optx_aliases.muon\n"),
        ("import optax\nx = 1; import optax.contrib as c\noptax.sgd, c.muon",
         "import optx_aliases\nx = 1; pass\noptx_aliases.sgd, optx_aliases.muon"),
        ("import optax.contrib as c\r\nimport optax.contrib as d\r\nd.muon, c.muon\r\n",
         "import optx_aliases\r\noptx_aliases.muon, optx_aliases.muon\r\n"),
        ("try:\n    import optax\nexcept ImportError: pass\nfrom optax import contrib\noptax.sgd, contrib.muon\n",
         "try:\n    import optx_aliases\nexcept ImportError: pass\nimport optx_aliases\noptx_aliases.sgd, optx_aliases.muon\n"),
        # adapters are those of optx_compat
        ("import optax\noptax.contrib.sophia\n", "import optx_compat\noptx_compat.contrib.sophia\n"),
        ("from optax.losses import ntxent\n", "from optx_compat.losses import ntxent\n"),
        ("import optax\noptax.transforms.ConditionFn\n", "import collections.abc\ncollections.abc.Callable\n"),
        # comments, strings, and positions after characters of several bytes stay
        ("import optax  # why\ns = 'π optax.adam', optax.adam  # é\n",
         "import optx_aliases  # why\ns = 'π optax.adam', optx_aliases.adam  # é\n"),
        ("if 1:\n    from optax import (  # a\n        clip,  # b\n        sgd,\n    )\n",
         "if 1:\n    # a\n    # b\n    from optx_aliases import sgd\n    from optx_core import clip\n"),
        ("import optax\r\noptax.adam, optax.clip\r\n",
         "import optx_aliases\r\nimport optx_core\r\noptx_aliases.adam, optx_core.clip\r\n"),
        ("try: import optax; x = 1\nfinally: optax.adam, optax.clip\n",
         "try: import optx_aliases; import optx_core; x = 1\nfinally: optx_aliases.adam, optx_core.clip\n"),
        # what is not clear keeps its text
        ("import optax\ngetattr(optax, 'adam'), optax.sgd\n",
         "import optx_aliases\nimport optx_compat as optax\ngetattr(optax, 'adam'), optx_aliases.sgd\n"),
        ("import optax as o\ndef f(x: 'o.Params'): ...\n", "import optx_compat as o\ndef f(x: 'o.Params'): ...\n"),
        ("try:\n    import optax\nexcept ImportError:\n    optax = None\noptax.adam\n",
         "try:\n    import optx_compat as optax\nexcept ImportError:\n    optax = None\noptax.adam\n"),
        ("from optax import losses\nlosses = [losses]\n", "import optx_compat.losses as losses\nlosses = [losses]\n"),
        ("def f():\n    global optax\n    import optax\noptax.adam\n",
         "def f():\n    global optax\n    import optx_compat as optax\noptax.adam\n"),
        ("from optax import *\n", "from optx_compat import *\n"),
        ("import optax\n", "import optx_compat as optax\n"),
        ("import optax\n(optax).nnls, optax.sgd\n",
         "import optx_aliases\nimport optx_compat as optax\n(optax).nnls, optx_aliases.sgd\n"),
        ("import optax.losses as o\ndef f():\n    import optax.contrib as o\n    o.muon\n",
         "import optx_compat.losses as o\ndef f():\n    import optx_compat.contrib as o\n    o.muon\n"),
        # what neither has stays an import of optax
        ("import optax.nope, jax, optax\noptax.sgd\n",
         "import optax.nope\nimport optx_aliases\nimport jax\noptx_aliases.sgd\n"),
        ("from optax import sgd, nope\n", "from optax import nope\nfrom optx_aliases import sgd\n"),
        ("try:\n    from optax import sgd\nexcept ImportError:\n    from optax.old import sgd\n",
         "try:\n    from optx_aliases import sgd\nexcept ImportError:\n    from optax.old import sgd\n"),
        ("from optax.old import *\nfrom optax.contrib import *\n",
         "from optax.old import *\nfrom optx_compat.contrib import *\n"),
        # names in private modules are public in optx, or stay
        ("from optax._src import base\nbase.Params\n", "import optx_core\noptx_core.Params\n"),
        ("import optax._src.base as base\nbase.Params\n", "import optx_core\noptx_core.Params\n"),
        ("from optax._src.base import Params, NO_PARAMS_MSG\n",
         "from optax._src.base import NO_PARAMS_MSG\nfrom optx_core import Params\n"),
        ("from optax._src import base\nbase.Params, base.NO_PARAMS_MSG\n",
         "import optx_core\nfrom optax._src import base\noptx_core.Params, base.NO_PARAMS_MSG\n"),
        ("from optax._src import base as b, transform\nb.NO_PARAMS_MSG\n",
         "import optax._src.base as b\nfrom optax._src import transform\nb.NO_PARAMS_MSG\n"),
        ("import optax._src.base\noptax._src.base.Params, optax.sgd\n",
         "import optx_aliases\nimport optx_core\noptx_core.Params, optx_aliases.sgd\n"),
        ("import optax\nimport optax._src.base\noptax._src.base.NO_PARAMS_MSG, optax.sgd, [optax]\n",
         "import optx_aliases\nimport optax._src.base\noptax._src.base.NO_PARAMS_MSG, optx_aliases.sgd, [optax]\n"),
        ("import optax\noptax._src.base.NO_PARAMS_MSG\n", "import optax\noptax._src.base.NO_PARAMS_MSG\n"),
        ("from optax._src.base import *\n", "from optax._src.base import *\n"),
        # what only looks like it
        ("import optax_tools\noptax.adam\nfrom .optax import x\n", "import optax_tools\noptax.adam\nfrom .optax import x\n"),
        ("import optax\nmatch x:\n    case [*optax]: optax.sgd\n",
         "import optx_compat as optax\nmatch x:\n    case [*optax]: optax.sgd\n"),
        # under TYPE_CHECKING
        ("if TYPE_CHECKING:\n    import optax\ndef f(x: optax.Params): ...\n",
         "if TYPE_CHECKING:\n    import optx_core\ndef f(x: optx_core.Params): ...\n"),
        ("if TYPE_CHECKING:\n    import optax\ndef f(x: 'optax.Params'): ...\n",
         "if TYPE_CHECKING:\n    import optx_compat as optax\ndef f(x: 'optax.Params'): ...\n"),
        # IPython
        ("%matplotlib inline\n!pip install \\\n  optax\nimport optax\nif 1:\n    !é\nx = !ls\noptax.sgd?\noptax.sgd\n",
         "%matplotlib inline\n!pip install \\\n  optax\nimport optx_aliases\nif 1:\n    !é\nx = !ls\noptax.sgd?\noptx_aliases.sgd\n"),
        ("import optax\r\n%time\r\noptax.sgd\r\n", "import optx_aliases\r\n%time\r\noptx_aliases.sgd\r\n"),
        ("import optax\na.optax.adam\n", "import optx_compat as optax\na.optax.adam\n"),
    ],
)  # fmt: skip
def test_a_program_is_rewritten(source, expected):
    assert rewritten(source) == expected


@pytest.mark.parametrize(
    "text",
    [
        'f"{optax.adam} {1:{optax.sgd.__name__[0]}>9}"',
        'f"{optax.adam}" f"{optax.adam}"',
        'f"{optax.adam}", f"{optax.sgd}" "optax.adam" f"{optax.adam}"',
        'f"""a\n{\noptax.adam}\n {optax.adam!r}"""',
    ],
)
def test_names_inside_of_f_strings_are_rewritten_or_served_by_optx_compat(text):
    """Before Python 3.12 the parser does not know where they are."""
    found = []
    for source in (
        f"import optx_compat as optax\nx = {text}",
        rewritten(f"import optax\nx = {text}"),
    ):
        namespace = {}
        exec(source, namespace)
        found.append(namespace["x"])
    assert found[0] == found[1]


def test_the_command_lists_every_name_once_and_the_imports(tmp_path, capsys):
    file = tmp_path / "train.py"
    file.write_text(
        "import optax\ntx = optax.chain(optax.adam(1), optax.contrib.sophia(1), optax.adam(2))\n"
    )
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(file),
        "  optax.adam -> optx_aliases.adam",
        "  optax.chain -> optx_core.chain",
        f"  optax.contrib.sophia -> optx_compat.contrib.sophia  ({DIFFERS['sophia']})",
        "  line 1, instead of `import optax`:",
        "      import optx_aliases",
        "      import optx_compat",
        "      import optx_core",
    ]
    assert "import optax" in file.read_text()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import optax\noptax.nnls\n", "optax.nnls -> nothing, line 2: optx has no optax.nnls"),
        ("from optax import nope\n", "optax.nope -> nothing, line 1: optax 0.2.8 has no optax.nope"),
        ("import optax.nope\n", "optax.nope -> nothing, line 1"),
        ("import optax.nope as n\nn.x\n", "optax.nope.x -> nothing, line 2"),
        ("import optax\noptax._src.base.NO_PARAMS_MSG\n", "optax._src.base.NO_PARAMS_MSG -> nothing, line 2: "),
        ("import optax\nf(optax._src)\n", "optax._src -> nothing, line 2: a private module used as a value"),
        ("from optax._src import base\n", "optax._src.base is private"),
        ("from optax._src.base import *\n", "optax._src.base.* -> nothing, line 1"),
        ("from optax._src.base import NO_PARAMS_MSG\n", "optax._src.base.NO_PARAMS_MSG is private"),
    ],
)  # fmt: skip
def test_a_name_without_a_counterpart_sets_the_exit_status_and_the_rest_is_written(
    tmp_path, capsys, source, said
):
    file = tmp_path / "train.py"
    file.write_text(f"{source}from optax import sgd\n")
    assert main(["--write", str(file)]) == 1
    told = capsys.readouterr().out
    assert said in told
    assert file.read_text().endswith("from optx_aliases import sgd\n")
    for line in file.read_text().splitlines():  # each import is there
        if line.startswith(("import optx", "from optx")):
            exec(line)


def test_an_import_that_stays_is_said_to_stay(tmp_path, capsys):
    file = tmp_path / "train.py"
    file.write_text("from optax._src import base\n")
    assert main([str(file)]) == 1
    assert "  line 1, `from optax._src import base` stays" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("source", "numbers"),
    [
        ("importlib.import_module('optax._src.base')\n", [1]),
        ("import optax\n__import__('optax'), optax.sgd\n@patch('optax.adam')\ndef f(): ...\n", [2, 3]),
        ('import optax\ndef f():\n    """Doc.\n\n    >>> import optax\n    """\n    optax.sgd\n', [3]),
        ("import optax\noptax.sgd('optax is a library', 'optax2')\ndef f(x: 'optax.Params'): ...\n", []),
    ],
)  # fmt: skip
def test_strings_that_name_optax_stay_and_are_listed(tmp_path, capsys, source, numbers):
    file = tmp_path / "train.py"
    file.write_text(source)
    assert main([str(file)]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "a string" in line]
    assert told == [f"  line {number}: a string names optax, and stays" for number in numbers]


def test_a_notebook_is_rewritten_cell_by_cell(tmp_path, capsys):
    def cell(kind, *source):
        return {"cell_type": kind, "metadata": {}, "source": list(source)}

    def notebook(*cells):
        return json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"

    text, shell = cell("markdown", "optax.adam"), cell("code", "%%bash\n", "import optax\n")
    file = tmp_path / "train.ipynb"
    file.write_text(
        notebook(
            text,
            cell("code", "%matplotlib inline\n", "import optax"),
            shell,
            cell("code", "%%time\n", "optax.sgd, optax.nnls"),
        )
    )
    assert main(["--write", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "optax.nnls -> nothing, line 2 of cell 4: " in told
    assert "  line 2 of cell 2, instead of `import optax`:" in told
    assert file.read_text() == notebook(
        text,
        cell(
            "code",
            "%matplotlib inline\n",
            "import optx_aliases\n",
            "import optx_compat as optax",
        ),
        shell,
        cell("code", "%%time\n", "optx_aliases.sgd, optax.nnls"),
    )


def test_hidden_folders_and_installed_packages_are_left_alone(tmp_path, capsys):
    folders = [
        ".venv/lib/site-packages",
        "env/lib/site-packages/optax",
        ".ipynb_checkpoints",
        "src",
    ]
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.py").write_text("import optax\noptax.sgd\n")
    assert main(["--write", str(tmp_path)]) == 0
    kept = [
        (tmp_path / folder / "a.py").read_text().startswith("import optax\n") for folder in folders
    ]
    assert kept == [True, True, True, False]
    assert capsys.readouterr().out.count("a.py") == 1


@pytest.mark.parametrize("text", ["[1]", '{"cells": 1}', "x", '{"worksheets": []}'])
def test_what_is_no_notebook_is_an_error_of_the_file(tmp_path, capsys, text):
    (tmp_path / "a.ipynb").write_text(text)
    assert main([str(tmp_path)]) == 2
    assert "a.ipynb" in capsys.readouterr().err


def test_variables_of_the_name_of_a_module_are_not_taken_for_it(tmp_path, capsys):
    file = tmp_path / "train.py"
    file.write_text("from optax import losses\nlosses = []\nlosses.append(1)\n")
    assert main([str(file)]) == 0
    assert "append" not in capsys.readouterr().out


def test_files_that_cannot_be_read_set_the_exit_status_and_the_others_are_written(tmp_path, capsys):
    for name, content in {
        "a.py": b"import optax(\n",
        "b.py": "# coding: latin-1\nimport optax  # \xe9\n".encode("latin-1"),
        "c.py": b"\xef\xbb\xbfimport optax\noptax.sgd\n",
        "d.py": b"import jax\n",
    }.items():
        (tmp_path / name).write_bytes(content)
    assert main(["--write", str(tmp_path), str(tmp_path / "none.py")]) == 2
    told = capsys.readouterr()
    assert [name in told.err for name in ("a.py", "b.py", "c.py", "d.py", "none.py")] == [
        True, True, False, False, True,
    ]  # fmt: skip
    assert (tmp_path / "c.py").read_bytes() == b"import optx_aliases\noptx_aliases.sgd\n"
    assert "d.py" not in told.out


def test_the_command_runs_and_prints_the_table():
    done = subprocess.run(
        [sys.executable, "-m", "optx_compat", "--page"], capture_output=True, text=True, check=True
    )
    assert "\n# From optax to optx\n" in done.stdout
    assert (
        subprocess.run([sys.executable, "-m", "optx_compat"], capture_output=True).returncode == 2
    )
