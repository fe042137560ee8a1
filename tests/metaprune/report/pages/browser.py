"""Pages in a real browser: what is wrong with them, at two widths, in light and in dark.

All pages stand in frames of one page, so that the browser starts once for a theme; a script that
is only in the tests measures inside of them and leaves what it found as text.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDTHS = (1200, 390)
THEMES = {"light": 1, "dark": 0}
"""Name → the value that Blink knows it by."""

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

MEASURE = """
<script>
function shade(text) {
  const m = text.match(/rgba?\\(([^)]*)\\)/);
  if (!m) return null;
  const [r, g, b, a = 1] = m[1].split(/[ ,/]+/).map(Number);
  return [r, g, b, a];
}
function luminance(c) {
  const f = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]);
}
function contrast(one, other) {
  const [a, b] = [luminance(one), luminance(other)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}
function ground(win, element) {
  for (let e = element; e; e = e.parentElement) {
    const c = shade(win.getComputedStyle(e).backgroundColor);
    if (c && c[3] > 0.99) return c;
  }
  return [255, 255, 255, 1];
}
function examine(frame) {
  const win = frame.contentWindow, doc = frame.contentDocument, found = [];
  const root = doc.documentElement, width = root.clientWidth;
  if (root.scrollWidth > width) found.push(`page is ${root.scrollWidth} wide in ${width}`);
  for (const e of doc.body.querySelectorAll("*")) {
    const box = e.getBoundingClientRect();
    if (box.right > width + 1 && !e.closest(".scroll, pre, svg"))
      found.push(`<${e.tagName.toLowerCase()} class="${e.className}"> ends at ${box.right}`);
  }
  const walk = doc.createTreeWalker(doc.body, NodeFilter.SHOW_TEXT);
  for (let node; node = walk.nextNode();) {
    const e = node.parentElement, text = node.textContent.trim();
    if (!text || ["STYLE", "SCRIPT", "title"].includes(e.tagName)) continue;
    const box = e.getBoundingClientRect(), style = win.getComputedStyle(e);
    if (!box.width || !e.checkVisibility()) continue;
    const ink = shade(e.ownerSVGElement ? style.fill : style.color);
    if (!ink) { found.push(`"${text}" has no colour`); continue; }
    const ratio = contrast(ink, ground(win, e));
    if (ratio < 4.5) found.push(`"${text.slice(0, 40)}" has a contrast of ${ratio.toFixed(2)}`);
    if (e.ownerSVGElement && box.height < 8)
      found.push(`"${text.slice(0, 40)}" is ${box.height.toFixed(1)} pixels high`);
  }
  return [...new Set(found)];
}
const errors = [];
window.addEventListener("error", e => errors.push(e.message));
window.addEventListener("load", () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    for (const d of frame.contentDocument.querySelectorAll("details")) d.open = true;
    found[frame.name] = examine(frame);
  }
  const told = document.createElement("pre");
  told.id = "found";
  told.textContent = JSON.stringify({found, errors});
  document.body.append(told);
});
</script>
"""


def program() -> str | None:
    """A browser; None where there is none."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


def faults(pages: Mapping[str, str], theme: str, folder: Path) -> dict[str, list[str]]:
    """What is wrong with pages in one theme, by "PAGE at WIDTH".

    Args:
        pages: name → HTML.
        theme: one of `THEMES`.
        folder: for the page of frames and the browser's profile.
    """
    frames = "".join(
        f'<iframe name="{name} at {width}" width="{width}" height="900" '
        f'srcdoc="{html.escape(page)}"></iframe>'
        for name, page in pages.items()
        for width in WIDTHS
    )
    sheet = folder / f"frames-{theme}.html"
    sheet.write_text(f"<!doctype html><meta charset=utf-8>{MEASURE}<body>{frames}")
    out, errors = _run(["--dump-dom", sheet.as_uri()], theme, folder)
    told = re.search(r'<pre id="found">(.*?)</pre>', out, re.DOTALL)
    assert told, errors[-2000:]
    content = json.loads(html.unescape(told[1]))
    said = [line for line in errors.splitlines() if "CONSOLE" in line]
    return {**content["found"], "scripts": [*content["errors"], *said]}


def picture(page: Path, theme: str, width: int, height: int, to: Path) -> None:
    """A page as a picture, for people to look at."""
    frame = f'<iframe width="{width}" height="{height}" style="border:0" src="{page.as_uri()}">'
    sheet = to.with_suffix(".html")
    sheet.write_text(f"<!doctype html><style>body{{margin:0}}</style>{frame}</iframe>")
    size = f"--window-size={max(width, 500)},{height}"
    _run([f"--screenshot={to}", size, "--hide-scrollbars", sheet.as_uri()], theme, to.parent)


def _run(arguments: Sequence[str], theme: str, folder: Path) -> tuple[str, str]:
    own = [f"--user-data-dir={folder / f'profile-{theme}'}", "--enable-logging=stderr",
           f"--blink-settings=preferredColorScheme={THEMES[theme]}"]  # fmt: skip
    done = subprocess.run(
        [str(program()), *QUIET, *own, *arguments],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.stdout, done.stderr
