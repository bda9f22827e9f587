"""Who speaks in a text: given names or roles, drawn for each document (paper §3, RefuseWeb)."""

from collections.abc import Sequence

from safelm.grammar import Draw, pick
from specs.prompt import Speakers


def people(names: Sequence[str], speakers: Speakers | None, draw: Draw) -> dict[str, str]:
    """Two given names that differ and, in a dialogue, who asks and who answers."""
    first = int(draw() * len(names))
    friend = names[(first + 1 + int(draw() * (len(names) - 1))) % len(names)]
    found = {"name": names[first], "friend": friend}
    if speakers is None:
        return found
    pair = [names[first], friend] if draw() < speakers.names else pick(speakers.roles, draw)
    return {**found, "asker": pair[0], "answerer": pair[1]}
