"""Mutants of who may come in and what for, and of what a disk bears: a unit test catches each."""

from __future__ import annotations

from typing import Final

from mutants.mutation import Mutant, Patch

_RIGHTS: Final = "epaxos.security.rights"
_ACCESS: Final = "epaxos.security.access"
_PASSWORDS: Final = "epaxos.security.passwords"
_PATIENCE: Final = "epaxos.security.patience"
_TOKENS: Final = "epaxos.security.tokens"
_PORTER: Final = "epaxos.actors.porter"
_ROOM: Final = "epaxos.storage.room"

_OF_RIGHTS: Final = "tests/unit/security/test_rights.py::"
_OF_LISTS: Final = "tests/unit/security/test_access.py::"
_OF_DOORS: Final = "tests/unit/security/test_doors.py::"
_OF_SOCKETS: Final = "tests/unit/actors/test_porter.py::"
_OF_ROOM: Final = "tests/unit/storage/test_room.py::"

RIGHTS: Final = (
    Mutant(
        "role-not-asked",
        "who may read may write",
        "security: roles",
        Patch(
            _RIGHTS,
            "        if self.role < needed:\n            return self._lacks(needed, _name(operation))\n",
            "",
        ),
        schedule=_OF_RIGHTS + "test_every_operation_needs_a_role",
    ),
    Mutant(
        "prefix-of-the-first-key",
        "of the keys of a batch the first one is judged",
        "security: prefixes",
        Patch(
            _RIGHTS,
            "all(map(bytes.startswith, keys, repeat(self.prefixes)))",
            "all(map(bytes.startswith, keys[:1], repeat(self.prefixes)))",
        ),
        schedule=_OF_RIGHTS + "test_one_command_among_many_is_blamed",
    ),
    Mutant(
        "parts-not-judged",
        "the operations of a MULTI, or of what a transaction prepares, touch any key",
        "security: prefixes",
        Patch(_RIGHTS, "refusals = filter(None, map(self._refusal, parts))", "refusals = iter(())"),
        schedule=_OF_RIGHTS + "test_a_key_of_another_prefix_is_not_touched",
    ),
    Mutant(
        "machine-reads-only",
        "what a state machine says that a command writes counts as read",
        "security: roles",
        Patch(_RIGHTS, "if operation == Operation.APPLY and argument[1]:", "if False:"),
        schedule=_OF_RIGHTS + "test_what_a_multi_and_a_machine_may_do_is_what_their_parts_need",
    ),
    Mutant(
        "unknown-operation-for-all",
        "an operation that nobody has judged is for everybody",
        "security: roles",
        Patch(
            _RIGHTS,
            "needed = _NEEDS.get(operation, Role.ADMIN)",
            "needed = _NEEDS.get(operation, Role.READ)",
        ),
        schedule=_OF_RIGHTS + "test_an_operation_that_nobody_has_judged_is_for_admins_of_all_keys",
    ),
    Mutant(
        "digest-for-all",
        "who may read may have the state of a replica hashed",
        "security: roles",
        Patch(
            _RIGHTS,
            '_FREE: Final = frozenset({"brief", "left", "watch"})',
            '_FREE: Final = frozenset({"brief", "left", "watch", "digest"})',
        ),
        schedule=_OF_RIGHTS + "test_questions_for_the_state",
    ),
)

LISTS: Final = (
    Mutant(
        "removed-key-stays",
        "a list that is read again adds keys, and takes none",
        "security: change who may come in",
        Patch(
            _ACCESS,
            "        self._keys = replicas | {",
            "        self._keys = {**self._keys} | replicas | {",
        ),
        schedule=_OF_LISTS + "test_who_is_removed_has_no_rights_once_the_lists_are_read",
    ),
    Mutant(
        "end-not-heeded",
        "the rights of a client do not end at the time that the list says",
        "security: give a cluster keys",
        Patch(
            _ACCESS,
            "return rights if rights is not None and self._clock() < rights.until else None",
            "return rights",
        ),
        schedule=_OF_LISTS + "test_rights_end",
    ),
    Mutant(
        "invitation-without-end",
        "the key of a replica that is to join does not end",
        "security: change who may come in",
        Patch(
            _ACCESS,
            'return "" if rights is None or rights.until <= self._clock() else rights.name',
            'return "" if rights is None else rights.name',
        ),
        schedule=_OF_LISTS + "test_rights_end",
    ),
    Mutant(
        "client-at-the-port-of-peers",
        "a client's key opens the port of the peers",
        "security: threat model",
        Patch(
            _PORTER,
            "look = self.access.replica if domain == PEERS.encode() else self.access.rights",
            "look = self.access.rights",
        ),
        schedule=_OF_SOCKETS + "test_peers_are_replicas",
    ),
    Mutant(
        "removed-on-a-connection",
        "who is taken from the list keeps its rights on a connection that stands",
        "security: change who may come in",
        Patch(
            _PORTER,
            "return self.access.rights(_key_of(part)) or _gone(part)",
            "return self.access.rights(_key_of(part)) or anybody(part)",
        ),
        schedule=_OF_SOCKETS + "test_who_is_taken_from_the_list_has_no_rights_on_a_connection_that_stands",
    ),
    Mutant(
        "open-to-others",
        "without keys a replica listens on any address, and only says so",
        "security",
        Patch(_PORTER, "    if not config.security.insecure:\n", "    if False:\n"),
        schedule=_OF_SOCKETS + "test_a_replica_without_keys_is_for_its_own_machine",
    ),
)

GUESSES: Final = (
    Mutant(
        "guesses-not-slowed",
        "who tries one key after the other waits no longer each time",
        "security: who tries",
        Patch(_PATIENCE, "min(2 * delay, LONGEST)", "min(delay + FIRST / 2, FIRST)"),
        schedule=_OF_DOORS + "test_each_failure_doubles_the_delay",
    ),
    Mutant(
        "guessers-without-bound",
        "all addresses that failed are remembered",
        "security: who tries",
        Patch(
            _PATIENCE,
            "        if len(self._known) > ADDRESSES:\n            self._known.popitem(last=False)\n",
            "",
        ),
        schedule=_OF_DOORS + "test_the_last_addresses_are_remembered",
    ),
    Mutant(
        "password-tried-while-waiting",
        "a password is looked at while its address is to wait",
        "security: who tries",
        Patch(_PASSWORDS, "            return left\n", "            pass\n"),
        schedule=_OF_DOORS + "test_passwords",
    ),
    Mutant(
        "no-password-is-one",
        "who has no password comes in with that of nobody",
        "security: HTTP and Redis",
        Patch(_PASSWORDS, "if client is None or not hashed:", "if client is None:"),
        schedule=_OF_DOORS + "test_passwords",
    ),
    Mutant(
        "tokens-guessed-at-any-speed",
        "a wrong token is told so at once, however often one comes",
        "security: who tries",
        Patch(_TOKENS, "            if not left:\n                self._patience.failed(address, now)\n", ""),
        schedule=_OF_DOORS + "test_pages_are_for_those_with_a_token",
    ),
)

ROOM: Final = (
    Mutant(
        "quota-beside-the-disk",
        "a quota is not heeded as long as the disk has room",
        "operations: a disk fills",
        Patch(_ROOM, "self.left = min(on_disk, in_quota) if", "self.left = on_disk if"),
        schedule=_OF_ROOM + "test_a_quota_is_of_what_is_used",
    ),
    Mutant(
        "reserve-used-up",
        "what a disk is to keep is taken too",
        "operations: a disk fills",
        Patch(_ROOM, "found.f_bavail * found.f_frsize - self._reserve", "found.f_bavail * found.f_frsize"),
        schedule=_OF_ROOM + "test_a_reserve_is_kept_and_given_back_with_a_margin",
    ),
    Mutant(
        "room-without-margin",
        "commands are taken again with the first byte that is free",
        "operations: a disk fills",
        Patch(_ROOM, "elif self.left > limit // MARGIN:", "else:"),
        schedule=_OF_ROOM + "test_a_reserve_is_kept_and_given_back_with_a_margin",
    ),
)
