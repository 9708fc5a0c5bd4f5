"""Command line flags as gflags reads them: one dash or two, `-name value` or `-name=value`, `-name` or `-noname` alone for
those that are true or false; everything else is a word. `--` ends the flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

Default = bool | int | str
_TRUTH = {**dict.fromkeys(("1", "t", "true", "y", "yes"), True), **dict.fromkeys(("0", "f", "false", "n", "no"), False)}


class FlagError(Exception):
    """A flag nobody knows, or a value it cannot take."""


def parse_flags(argv: Sequence[str], known: Mapping[str, tuple[Default, str]]) -> tuple[SimpleNamespace, list[str]]:
    """Flags and the remaining words; `known` is {name: (default, help)}. FlagError for a bad one."""
    flags: dict[str, Default] = {name: default for name, (default, _) in known.items()}
    words = []
    args = iter(argv)
    for arg in args:
        if arg == "--":
            words.extend(args)
        elif not arg.startswith("-") or arg == "-":
            words.append(arg)
        else:
            name, equals, value = arg.lstrip("-").partition("=")
            if not equals and name.startswith("no") and isinstance(flags.get(name[2:]), bool):
                name, equals, value = name[2:], "=", "false"
            if name not in known:
                raise FlagError("unknown command line flag '%s'" % name)
            if not equals and isinstance(flags[name], bool):
                equals, value = "=", "true"
            if not equals:
                value = next(args, None)
                if value is None:
                    raise FlagError("flag '%s' is missing its argument" % name)
            flags[name] = _value(name, value, known[name][0])
    return SimpleNamespace(**flags), words


def _value(name: str, text: str, default: Default) -> Default:
    """The text as a value of the default's type."""
    kind = "bool" if isinstance(default, bool) else "int32"
    try:
        if isinstance(default, bool):
            return _TRUTH[text.lower()]
        return int(text) if isinstance(default, int) else text
    except (KeyError, ValueError):
        raise FlagError("illegal value '%s' specified for %s flag '%s'" % (text, kind, name)) from None


def describe_flags(known: Mapping[str, tuple[Default, str]]) -> str:
    """A line for each flag, sorted."""
    return "\n".join("  -%-15s%s (default: %r)" % (name, text, default) for name, (default, text) in sorted(known.items()))
