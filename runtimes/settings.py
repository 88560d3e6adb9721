"""What a runtime lets its user choose beyond what all of them have: declared in a table, checked in one place."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cnnport.errors import CnnportError, UnknownNameError

_ON = {"1", "on", "true", "yes"}
_OFF = {"0", "off", "false", "no"}


@dataclass(frozen=True)
class Setting:
    """One choice that a runtime offers, as ``--set NAME=VALUE`` gives it.

    Attributes:
        name: In lower case, words joined by ``_``.
        default: As a user would write it; empty where the package behind the runtime decides.
        help: What it does, in a few words without a full stop.
        choices: The values that it takes; ``("0", "1")`` for a switch, ``("N",)`` for whole numbers, ``("X",)`` for
            shares from 0 to 1; empty for any text.
    """

    name: str
    default: str
    help: str
    choices: tuple[str, ...] = ()

    def check(self, value: str) -> str:
        """The value as ``choices`` writes it.

        Raises:
            CnnportError: If it is none of them.
        """
        if self.choices == ("0", "1") and value.lower() in _ON | _OFF:
            return str(int(value.lower() in _ON))
        if self.choices == ("N",) and value.isdecimal():
            return value
        if self.choices == ("X",) and _is_share(value):
            return value
        if not self.choices or value in self.choices:
            return value
        kinds = {("N",): "a whole number", ("X",): "a share from 0 to 1", ("0", "1"): "0 or 1"}
        raise CnnportError(
            f"setting {self.name} takes {kinds.get(self.choices, ', '.join(self.choices))}, not {value!r}"
        )


@dataclass(frozen=True)
class Settings:
    """The choices of one session, defaults included.

    Attributes:
        values: By name, checked.
    """

    values: Mapping[str, str]

    def text(self, name: str) -> str:
        """The value; empty where the package behind the runtime decides."""
        return self.values[name]

    def flag(self, name: str) -> bool:
        """Whether a switch is on."""
        return self.values[name] == "1"

    def number(self, name: str) -> int | None:
        """A whole number; None where the package behind the runtime decides."""
        return int(self.values[name]) if self.values[name] else None

    def share(self, name: str) -> float:
        """A share that has a default."""
        return float(self.values[name])


def settle(runtime: str, declared: Sequence[Setting], given: Mapping[str, str]) -> Settings:
    """What was asked for, checked, and the defaults of the rest.

    Raises:
        UnknownNameError: If the runtime has no such setting.
        CnnportError: If a value is none that the setting takes.
    """
    known = {setting.name: setting for setting in declared}
    for name in given:
        if name not in known:
            listing = f"its settings are {', '.join(known)}" if known else "it has none"
            raise UnknownNameError(f"runtime {runtime} has no setting called {name!r}: {listing}")
    checked = {name: known[name].check(value) for name, value in given.items()}
    return Settings({setting.name: setting.default for setting in declared} | checked)


def parse_settings(texts: Iterable[str]) -> dict[str, str]:
    """``NAME=VALUE`` as the command line gives it.

    Raises:
        CnnportError: If one is not of that form, or a name is given twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise CnnportError(f"--set takes NAME=VALUE, not {text!r}")
        if name in found:
            raise CnnportError(f"--set names {name} twice")
        found[name] = value
    return found


def _is_share(text: str) -> bool:
    try:
        # What is no number is between no two.
        return 0 <= float(text) <= 1
    except ValueError:
        return False
