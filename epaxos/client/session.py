"""One session with the cluster, without socket, clock or chance of its own.

What is submitted gets the next request numbers and waits in a queue. `outgoing` makes frames of what waits:
one frame takes all it can, so callers who come together travel together. `receive` takes the answers.

**Numbers stay with their commands.** Replicas execute a number of a session once, so a command whose answer is missing
is sent again under its old number, alone or in other company. A number that was given up is never used again.

**What a failure says.** A command has certainly not executed only if every frame that held it was answered BUSY
or REFUSED, or never left. So a ticket remembers its `tries`: the replicas that got it and did not say so. Only
a ticket without any fails with `may_have_executed` False, and that stays true, because what has failed is
never sent again.

**Time.** A ticket has until its deadline. Each try may take an equal share of what is left; then the command goes to
the next replica, and an answer to an earlier try still counts. After the last try it waits for such answers.

The user passes the time in (seconds, any origin, never decreasing), carries frames, reports connections,
and asks `next_event` how long it may sleep.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random
from typing import Final, Generic, NamedTuple, TypeAlias

from epaxos.client import answers
from epaxos.client.commands import Op, weigh
from epaxos.client.flight import FRAME_WEIGHT, Flight, frame_of, run_end
from epaxos.client.options import Options
from epaxos.client.questions import Question, Questions
from epaxos.client.routing import Routes
from epaxos.client.ticket import Ticket, Waiter
from epaxos.errors import Busy, ClientError, Closed, FrameError, NoAnswer, Refused
from epaxos.statemachine.batch import Argument, encode_batch
from epaxos.transport.framing import HEADER_SIZE, Kind, open_frame, seal
