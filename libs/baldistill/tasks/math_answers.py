"""Mathematical results in texts: what is boxed, what is only dressing, what two spellings have in common. Pure."""

from __future__ import annotations

import re

from baldistill.tasks.answers import NO_ANSWER, final_answer

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_MATH_MARKS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_EMPHASIS = " \t\r\n*_`"
_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:/\d+)?"
# "18 dollars", "3.5 cm^2", "$ 70,000", "12 apples per day": a number with words that say of what.
_WITH_UNIT = re.compile(rf"(?:\\?[$€£]\s?)?({_NUMBER})\s*(?:[A-Za-z°][A-Za-z°.\s/]*(?:\^?\{{?[23]\}}?)?)?")
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]+")
_TEXT_MARK = re.compile(r"\\(?:text|mathrm|textbf|mbox)\s*\{([^{}]*)\}")
_SPACING = re.compile(r"\\(?:left|right|!|,|;|quad)")


def last_boxed(text: str) -> str | None:
    r"""Return what the last \boxed{...} holds, braces inside it balanced; None where there is none that ends."""
    openings = {match.end() - 1 for match in _BOX.finditer(text)}
    opened: list[int] = []
    last: tuple[int, int] | None = None
    for place, character in enumerate(text if openings else ""):
        if character == "{":
            opened.append(place)
        elif character == "}" and opened:
            start = opened.pop()
            if start in openings and (last is None or start > last[0]):
                last = (start, place)
    return None if last is None else text[last[0] + 1 : last[1]].strip()


def unboxed(answer: str) -> str:
    """Return what is in an answer's last box, or the answer itself."""
    boxed = last_boxed(answer)
    return answer if boxed is None else boxed


def final_result(text: str) -> str | None:
    """Return a solution's final result: of its last `Answer:` line, else of its last box; None where it has neither."""
    answer = final_answer(text)
    return last_boxed(text) if answer is None else answer


def canonical_result(answer: str) -> str:
    """Return a result without box, dollar signs, marks of emphasis and a final full stop; `<none>` where nothing is left."""
    plain = unboxed(answer.strip(_EMPHASIS).removesuffix(".").strip(_EMPHASIS))
    for opening, closing in _MATH_MARKS:
        if plain.startswith(opening) and plain.endswith(closing) and len(plain) > len(opening) + len(closing):
            plain = plain[len(opening) : -len(closing)].strip()
            break
    plain = unboxed(plain).removesuffix(".").strip()
    return plain or NO_ANSWER


def without_unit(result: str) -> str:
    """Return the number where a result is one with a currency or words behind it, else the result as it is."""
    match = _WITH_UNIT.fullmatch(result)
    return match.group(1) if match and any(map(str.isdigit, match.group(1))) else result


def same_spelling(result: str) -> str:
    """Return what equal results have in common however they are typeset; only for telling that two are equal."""
    plain = without_unit(_without_text_marks(canonical_result(result)))
    plain = _SPACING.sub("", plain).replace("dfrac", "frac").replace("tfrac", "frac")
    plain = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", plain)
    return re.sub(r"\s+", "", plain)


def is_words(result: str) -> bool:
    r"""Tell whether a true result is words, not mathematics: `Evelyn` is no product of six variables.

    What stands in \text{...} is; bare letters are where four stand together, `xyz` being a product.
    """
    canonical = canonical_result(result)
    if _TEXT_MARK.fullmatch(canonical):
        return True
    return _WORDS.fullmatch(canonical) is not None and re.search("[A-Za-z]{4}", canonical) is not None


def _without_text_marks(result: str) -> str:
    return _TEXT_MARK.sub(r"\1", result)
