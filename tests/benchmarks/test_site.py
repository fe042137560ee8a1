"""The documentation site: scripts become pages, and no link leads nowhere."""

from __future__ import annotations

import subprocess
import sys

import pytest

from metaprune.packages import HOME

pytest.importorskip("mkdocs", reason="pip install 'metaprune[docs]'")
from benchmarks.pages import site

SCRIPT = '''"""A title.

Prose of the start.

    pip install this
    python that.py
"""

import torch

# %% First
# Two lines of
# prose.
x = 1


# a comment of the code
y = 2

# %% Second
z = 3
'''

PAGE = """# A title

Prose of the start.

```sh
pip install this
python that.py
```


```python
import torch
```

## First

Two lines of prose.

```python
x = 1


# a comment of the code
y = 2
```

## Second

```python
z = 3
```
"""


def test_a_script_becomes_a_page():
    assert site.tutorial(SCRIPT) == PAGE


@pytest.mark.parametrize("script", sorted((HOME / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_tutorials_keep_all_code_and_are_in_the_menu(script):
    source = script.read_text(encoding="utf-8")
    page = site.tutorial(source)
    assert page.count("```") % 2 == 0
    code = [line for line in source.split('"""', 2)[2].splitlines() if line[:1] not in ("#", "")]
    assert all(line in page for line in code)
    assert f"tutorials/{script.stem}.md" in (HOME / "mkdocs.yml").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_site_is_built_and_no_link_leads_nowhere(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")],
        cwd=HOME, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
    assert "metaprune.api.prune" in reference
    assert "Result.save" in reference or "result.Result.save" in reference
