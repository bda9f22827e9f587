"""YAML syntax errors as plain sentences with the fix."""

import re

import yaml

KEY_WITHOUT_COLON = re.compile(r"\s*[\w-]+(\s[^:]*)?$")
COLON_WITHOUT_SPACE = re.compile(r"\s*[\w-]+:[^\s:/]")
SPECIAL = "has a value that begins with a special character; put the value in quotes"
# By words of PyYAML's message.
MESSAGES = {
    "constructor for the tag": "has a tag (`!…`), which is not allowed; write plain values",
    "cannot start any token": SPECIAL,
    "alphabetic or numeric": SPECIAL,
    "undefined alias": "has an alias (`*…`) without an anchor; put a word that begins with * in "
    "quotes",
}
OPENING = {"flow mapping": ("{", "}"), "flow sequence": ("[", "]")}


def explain(text: str, error: yaml.MarkedYAMLError) -> tuple[int, str]:
    """Return the number of the line to change, and what is wrong with it.

    The cases are told apart by PyYAML's own messages.
    """
    at, opened_at = _line_of(error.problem_mark), _line_of(error.context_mark)
    context, problem = error.context or "", error.problem or ""
    lines = text.splitlines()
    line = lines[at - 1] if at <= len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent:
        return at, "is indented with a tab; use spaces"
    for name, (opening, closing) in OPENING.items():
        if name in context and "expected ','" in problem:
            return opened_at, (
                f"opens `{opening}` without closing it; add `{closing}`, or a missing comma inside"
            )
    if "quoted scalar" in context:
        return opened_at, "opens a quote without closing it; add the missing quote"
    if "mapping values" in problem or "expected ':'" in problem:
        column = error.problem_mark.column if error.problem_mark else 0
        return _explain_colon(lines, at, column)
    if "expected key" in problem or "'-' indicator" in problem:
        if line.lstrip()[:1] in ("}", "]") or line.count("}") > line.count("{"):
            return at, "closes a bracket that is not open; remove it"
        return at, "has an indent that no line above it has; align it with its neighbours"
    other = f"is not valid YAML: {problem}; compare it with the lines around it"
    return at, next((MESSAGES[words] for words in MESSAGES if words in problem), other)


def _line_of(mark: yaml.Mark | None) -> int:
    """Return a line number counted from 1; PyYAML counts from 0."""
    return mark.line + 1 if mark else 1


def _explain_colon(lines: list[str], at: int, column: int) -> tuple[int, str]:
    """Find the cause of an unexpected colon, which is often in the line above."""
    line = lines[at - 1] if at <= len(lines) else ""
    if ": " in line[:column]:
        return at, "has a second `: `; put the value in quotes"
    above = at - 1
    while above and lines[above - 1].partition("#")[0].isspace():
        above -= 1
    before = ""
    if above:
        before = lines[above - 1].partition(" #")[0].rstrip()
    if COLON_WITHOUT_SPACE.match(before):
        return above, "has no space after the colon of its key; write `key: value`"
    if KEY_WITHOUT_COLON.match(before):
        return above, "has no colon after its key; write `key: value`"
    return at, "is indented deeper than the line above; give both the same indent"
