"""HTML mails to text, as a person would see them: what is hidden is dropped, and said so."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

MAX_HTML = 1_000_000  # characters that are looked at
_HIDING = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*[01](?:\.\d+)?(?:px|pt|em|%)?\s*(?:;|!|$)"
    r"|opacity\s*:\s*0(?:\.0+)?\s*(?:;|!|$)|max-height\s*:\s*0(?:px)?\s*(?:;|!|$)|mso-hide\s*:\s*all",
    re.IGNORECASE,
)
_NEVER_SHOWN = ("script", "style", "template", "noscript", "title", "object", "embed", "iframe")
_TAG = re.compile(r"<[^<>]*>")  # linear, whatever comes


def to_text(html: str, flags: set[str]) -> str:
    """Never raises; where the real conversion fails, tags are cut out."""
    html = html[:MAX_HTML]
    try:
        text = _converted(html, flags)
    except Exception:  # noqa: BLE001 - foreign bytes (RecursionError among them)
        text = ""
    if text.strip() or "hidden text" in flags:
        return text
    plain = unescape(_TAG.sub(" ", html)).strip()
    if plain:  # it fell over, or gave up at its depth limit: better too much than nothing
        flags.add("html")
    return plain


def _converted(html: str, flags: set[str]) -> str:
    # Here and not above: the parsing process pays 15 MB for them only once an HTML mail comes.
    from inscriptis.css_profiles import CSS_PROFILES  # noqa: PLC0415
    from inscriptis.html_engine import Inscriptis  # noqa: PLC0415
    from inscriptis.model.config import ParserConfig  # noqa: PLC0415
    from lxml import html as lxml_html  # noqa: PLC0415

    without_declaration = re.sub(r"^\s*<\?xml[^>]*>", "", html)
    if not without_declaration.strip():
        return ""
    tree = lxml_html.document_fromstring(without_declaration)
    _drop_hidden(tree, flags)
    config = ParserConfig(css=CSS_PROFILES["relaxed"], display_links=False, display_images=False)
    return str(Inscriptis(tree, config).get_text())


def _drop_hidden(tree: Any, flags: set[str]) -> None:
    doomed = []
    for element in tree.iter():
        if not isinstance(element.tag, str):
            continue  # comments are not shown by the converter
        if element.tag in _NEVER_SHOWN:
            doomed.append(element)
        elif "hidden" in element.attrib or _HIDING.search(element.get("style") or ""):
            doomed.append(element)
            if (element.text_content() or "").strip():
                flags.add("hidden text")
    for element in doomed:
        if element.getparent() is not None:
            element.drop_tree()
