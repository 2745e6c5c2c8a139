"""The configuration of a cluster: `load_config` finds it, validates it and gives a `Config`.

keys        every key, declared once: purpose, kind of value, default
kinds       the kinds of values and what is allowed; `durations` are one of them
model       the configuration as the program sees it
loading     the file: where it is looked for, how it is read
validation  from the content of a file and the environment to a `Config`, or to all that is wrong with them;
            `settings` reads tables and variables, `replicas` the [[replicas]] tables
rendering   a commented file, and the table of the documentation
"""

from epaxos.config.defaults import LOCALHOST, REPLICA_NAMES, default_replicas
from epaxos.config.durations import format_duration, parse_duration
from epaxos.config.keys import KeyRow, describe_keys
from epaxos.config.kinds import ip_address, show
from epaxos.config.loading import load_config
from epaxos.config.model import ClientConfig, Config, ReplicaAddress, SecurityConfig, StorageConfig, place
from epaxos.config.rendering import markdown_table, render_file
from epaxos.config.settings import FILE_VARIABLE, REPLICA_VARIABLE
from epaxos.config.validation import make_config

__all__ = [
    "FILE_VARIABLE",
    "LOCALHOST",
    "REPLICA_NAMES",
    "REPLICA_VARIABLE",
    "ClientConfig",
    "Config",
    "KeyRow",
    "ReplicaAddress",
    "SecurityConfig",
    "StorageConfig",
    "default_replicas",
    "describe_keys",
    "format_duration",
    "ip_address",
    "load_config",
    "make_config",
    "markdown_table",
    "parse_duration",
    "place",
    "render_file",
    "show",
]
