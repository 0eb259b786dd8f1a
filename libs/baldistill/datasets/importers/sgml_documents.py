"""The documents of a Reuters-21578 SGML file. Its DTD asks for no more than tags that close and character references.

Read by a scanner of its own: the 22 files are Latin-1, full of control characters, and no parser of XML takes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from baldistill.errors import InvalidInput

_START = "<REUTERS"
_END = "</REUTERS>"
_ATTRIBUTE = re.compile(r'([A-Z]+)="([^"]*)"')
_TOPIC = re.compile(r"<D>(.*?)</D>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_REFERENCE = re.compile(r"&(?:#(\d+)|(lt|gt|amp|quot));?")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
# Every wire report ends in this word, in one spelling or another; it says nothing about the topic.
_SIGNATURE = re.compile(r"\s*\breuter$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReutersDocument:
    """One document. line: where it begins.   is_topical: somebody looked for topics (TOPICS="YES").

    lewis_split: TRAIN, TEST or NOT-USED.   topics: in the order of the file, each once.   text: title, line break, body.
    """

    path: Path
    line: int
    number: str
    is_topical: bool
    lewis_split: str
    topics: tuple[str, ...]
    text: str


def read_documents(path: Path, data: bytes) -> Iterator[ReutersDocument]:
    """Yield the documents of one file. Raises InvalidInput by line: cut in the middle, a missing or unclosed tag."""
    text = data.decode("latin-1")
    position, line, found = 0, 1, False
    while (begin := text.find(_START, position)) >= 0:
        line += text.count("\n", position, begin)
        end = text.find(_END, begin)
        another = text.find(_START, begin + len(_START))
        if end < 0 or 0 <= another < end:
            raise InvalidInput(
                f"the document that begins here has no {_END}: the file is cut or damaged", path=path, line=line
            )
        yield _document(text[begin:end], path=path, line=line)
        line += text.count("\n", begin, end)
        position, found = end, True
    if not found:
        raise InvalidInput("has no document: no <REUTERS tag was found", path=path, line=1)


def plain_text(sgml: str) -> str:
    """Return text with its character references resolved and all white space folded; control characters are space."""
    folded = " ".join(_REFERENCE.sub(_resolve, sgml).split())
    if folded.isprintable():
        return folded
    return " ".join("".join(one if one.isprintable() else " " for one in folded).split())


def _document(text: str, *, path: Path, line: int) -> ReutersDocument:
    head = text.partition(">")[0]
    attributes = dict(_ATTRIBUTE.findall(head))
    missing = [name for name in ("TOPICS", "LEWISSPLIT", "NEWID") if name not in attributes]
    if missing:
        raise InvalidInput(f"the document has no attribute {missing[0]}", path=path, line=line)
    topics = [plain_text(topic) for topic in _TOPIC.findall(_element(text, "TOPICS", path=path, line=line) or "")]
    return ReutersDocument(
        path=path,
        line=line,
        number=attributes["NEWID"],
        is_topical=attributes["TOPICS"] == "YES",
        lewis_split=attributes["LEWISSPLIT"],
        topics=tuple(dict.fromkeys(topics)),
        text=_title_and_body(text, path=path, line=line),
    )


def _title_and_body(text: str, *, path: Path, line: int) -> str:
    """Return what a reader reads. An unprocessed text (TYPE="UNPROC") has no tags: it is all body."""
    whole = _element(text, "TEXT", path=path, line=line)
    if whole is None:
        raise InvalidInput("the document has no <TEXT>", path=path, line=line)
    title = _element(whole, "TITLE", path=path, line=line)
    body = _element(whole, "BODY", path=path, line=line)
    if body is None and title is None:
        body = _TAG.sub(" ", whole)
    parts = [plain_text(title or ""), _SIGNATURE.sub("", plain_text(body or ""))]
    return "\n".join(part for part in parts if part)


def _element(text: str, name: str, *, path: Path, line: int) -> str | None:
    """Return what stands between a tag and its end, None where there is no such tag."""
    opening = re.search(rf"<{name}(?: [^>]*)?>", text)
    if opening is None:
        return None
    end = text.find(f"</{name}>", opening.end())
    if end < 0:
        raise InvalidInput(f"<{name}> of the document that begins here is not closed", path=path, line=line)
    return text[opening.end() : end]


def _resolve(match: re.Match[str]) -> str:
    return chr(int(match[1])) if match[1] else _NAMED[match[2]]
