"""What the box decides, and what its user may decide in `~/.jupyter`.

The user owns `~/.jupyter`, so this is no wall against them: it keeps a pasted line from opening
the server. Whatever is not named as theirs is dropped from the sections of the server and of its
identity, so that an option which a later Jupyter adds is closed as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from traitlets.config import Config, Configurable

#: Options of the server that are the user's: taste, limits, what runs in the kernels.
USERS_OWN = frozenset(
    {
        "config_manager_class",
        "contents_manager_class",
        "default_url",
        "file_url_prefix",
        "iopub_data_rate_limit",
        "iopub_msg_rate_limit",
        "jpserver_extensions",
        "kernel_manager_class",
        "kernel_spec_manager_class",
        "kernel_websocket_connection_class",
        "limit_rate",
        "log_level",
        "max_body_size",
        "max_buffer_size",
        "preferred_dir",
        "rate_limit_window",
        "session_manager_class",
        "terminado_settings",
        "websocket_ping_interval",
        "websocket_ping_timeout",
    }
)

# The folder is the bind mount, whichever contents manager shows it.
_NOBODYS = frozenset({"root_dir"})


def sections_of(classes: Iterable[type]) -> frozenset[str]:
    """Every section name through which an option reaches one of `classes`."""
    return frozenset(
        base.__name__
        for owner in classes
        for base in owner.__mro__
        if issubclass(base, Configurable)
    )


def keep_users_own(
    config: Config, closed: frozenset[str], ours: Mapping[str, Any]
) -> tuple[Config, tuple[str, ...]]:
    """Drop from `config` what is not the user's to set.

    Args:
        config: what a file, an extension or a command line asks for; not changed.
        closed: the sections in which only USERS_OWN passes.
        ours: what we set; an option that says the same is not worth a word.

    Returns:
        What is left, and the names of what was dropped.
    """
    kept, dropped = deepcopy(config), []
    for section in [name for name, value in config.items() if isinstance(value, Config)]:
        for option in list(config[section]):
            taken = option not in USERS_OWN if section in closed else option in _NOBODYS
            if taken:
                del kept[section][option]
                if option not in ours or ours[option] != config[section][option]:
                    dropped.append(f"{section}.{option}")
    return kept, tuple(dropped)
