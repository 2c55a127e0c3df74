"""Simulates how log files reach the function: through Lambda's asynchronous queue, or through an SQS queue in batches.

A discrete-event simulation in seconds. Log files differ only in their times; no network and no clock takes part, and equal seeds give
equal results. scripts/scale.py has the figures that go in, and docs/scale.md explains what comes out.
"""

import bisect
import collections
import heapq
import math
import random

SAMPLES = 1 << 14  # S3 answer times that a run draws from, in random order


class Work:
    """What one invocation does with its log files: it fetches up to `at_once` of them side by side, and one processor scans them.

    The processor needs `begin_seconds` before the first request, and `file_seconds` for each log file.
    """

    def __init__(self, answer_times, begin_seconds, file_seconds, at_once):
        self.answer_times, self.at_once = answer_times, at_once
        self.begin_seconds, self.file_seconds = begin_seconds, file_seconds
        self.drawn = 0

    def _answer(self):
        self.drawn += 1
        return self.answer_times[self.drawn % len(self.answer_times)]

    def finish_times(self, files):
        """Returns when each of `files` log files is done, in seconds after the handler began, in ascending order."""
        if files == 1:
            return [self.begin_seconds + self._answer() + self.file_seconds]
        answers = [self.begin_seconds + self._answer() for _ in range(min(files, self.at_once))]
        heapq.heapify(answers)
        begun, processor_free, done = len(answers), 0.0, []
        while answers:
            processor_free = max(processor_free, answers[0]) + self.file_seconds
            done.append(processor_free)
            if begun < files:
                begun += 1
                heapq.heapreplace(answers, processor_free + self._answer())
            else:
                heapq.heappop(answers)
        return done


def lognormal_times(median, spread, seed):
    """Returns answer times with a long tail: logarithms with the standard deviation `spread`."""
    source = random.Random(seed)
    return [median * math.exp(source.gauss(0, spread)) for _ in range(SAMPLES)]


class Environments:
    """The execution environments of one function: warm ones, cold starts, the concurrency limit and the scaling rate."""

    def __init__(self, limit, cold_seconds, idle_seconds, burst, refill):
        self.limit, self.cold_seconds, self.idle_seconds = limit, cold_seconds, idle_seconds
        self.burst, self.refill = burst, refill  # environments that may start at once; more of them a second
        self.allowed, self.allowed_at = burst, 0.0
        self.busy, self.idle = [], collections.deque()
        self.peak = self.invocations = 0
        self.cold_starts = []  # the time of each
        self.billed_seconds = 0.0

    def start(self, now):
        """Returns the seconds until the handler begins, or None if Lambda throttles the invocation."""
        busy, idle = self.busy, self.idle
        while busy and busy[0] <= now:
            idle.append(heapq.heappop(busy))
        while idle and idle[0] < now - self.idle_seconds:
            idle.popleft()
        if len(busy) >= self.limit:
            return None
        if idle:
            idle.pop()
            return 0.0
        self.allowed = min(self.burst, self.allowed + (now - self.allowed_at) * self.refill)
        self.allowed_at = now
        if self.allowed < 1:
            return None
        self.allowed -= 1
        self.cold_starts.append(now)
        return self.cold_seconds

    def occupy(self, begin, seconds):
        """Occupies the environment of the invocation whose handler runs `seconds` from `begin` on."""
        heapq.heappush(self.busy, begin + seconds)
        self.invocations += 1
        self.billed_seconds += seconds
        self.peak = max(self.peak, len(self.busy))

    def most_cold_starts(self, within):
        """Returns the largest number of cold starts in any `within` seconds."""
        most = first = 0
        for last, time in enumerate(self.cold_starts):
            while self.cold_starts[first] <= time - within:
                first += 1
            most = max(most, last + 1 - first)
        return most


class Run:
    """The times of each log file of a simulation: created, given to an invocation, and done."""

    def __init__(self, environments):
        self.environments = environments
        self.created, self.given, self.done = [], [], []

    def delays(self, begin=0.0):
        """Returns the sorted seconds from creation to done, of the log files that were created from `begin` on."""
        return sorted(done - created for created, done in zip(self.created, self.done) if created >= begin)

    def waiting(self, times, arrivals):
        """Returns how many notifications wait at each of the `times`; `arrivals` holds when each notification arrived, in order."""
        given = sorted(self.given)
        return [bisect.bisect_right(arrivals, time) - bisect.bisect_right(given, time) for time in times]

    def take(self, arrivals, lag, given, handler_begins, finish_times):
        """Notes the times of one invocation's log files."""
        self.created += [arrival - lag for arrival in arrivals]
        self.given += [given] * len(arrivals)
        self.done += [handler_begins + finished for finished in finish_times]


def percentile(ascending, share):
    """Returns the smallest value that at least `share` of the values do not exceed."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def asynchronous(arrivals, lag, work, environments, seed=0, outage=(0.0, 0.0)):
    """Simulates Lambda's asynchronous queue: one log file an invocation. A throttled event is tried again after 1, 2, 4 … 300 s.

    During `outage` every invocation is throttled.
    """
    run, jitter = Run(environments), random.Random(seed)
    again = []  # (time, number of tries before, arrival)
    position, count = 0, len(arrivals)
    while position < count or again:
        if again and (position == count or again[0][0] < arrivals[position]):
            now, tries, arrival = heapq.heappop(again)
        else:
            now, tries, arrival = arrivals[position], 0, arrivals[position]
            position += 1
        cold = None if outage[0] <= now < outage[1] else environments.start(now)
        if cold is None:
            factor = jitter.uniform(0.8, 1.2)
            while True:
                now, tries = now + min(300, 2**tries) * factor, tries + 1
                if not outage[0] <= now < outage[1]:
                    break
            heapq.heappush(again, (now, tries, arrival))
            continue
        finish_times = work.finish_times(1)
        environments.occupy(now + cold, finish_times[0])
        run.take((arrival,), lag, now, now + cold, finish_times)
    return run


class Poller:
    """One poller of the event source mapping: it collects a batch, invokes the function, and waits for its reply."""

    __slots__ = ("batch", "opened")

    def __init__(self):
        self.batch, self.opened = [], 0  # `opened` counts batches, so that the end of an older batch's window is ignored


class EventSourceMapping:
    """An SQS queue whose pollers invoke the function. `queued` runs it.

    `arrivals[head:position]` wait in the queue; `free` holds the pollers that collect a batch.
    """

    def __init__(self, arrivals, lag, work, environments, size, window, most_pollers, first_pollers, pollers_a_second, seed):
        self.arrivals, self.lag, self.work, self.environments = arrivals, lag, work, environments
        self.size, self.window = size, window
        self.most_pollers, self.fewest_pollers, self.growth_seconds = most_pollers, min(first_pollers, most_pollers), 1 / pollers_a_second
        self.pollers, self.growing, self.waited_at = self.fewest_pollers, False, -math.inf
        self.position = self.head = 0
        self.free, self.events, self.sequence = [], [], 0
        self.run, self.choose = Run(environments), random.Random(seed).random

    def later(self, time, action, *arguments):
        self.sequence += 1
        heapq.heappush(self.events, (time, self.sequence, action, arguments))

    def arrive(self, now):
        """Gives a message to one of the pollers that collect, or leaves it in the queue."""
        self.position += 1
        if not self.free:
            self.waited_at = now
            if not self.growing and self.pollers < self.most_pollers:
                self.growing = True
                self.later(now + self.growth_seconds, self.grow)
            return
        self.head = self.position
        chosen = int(self.choose() * len(self.free))
        poller = self.free[chosen]
        poller.batch.append(now)
        if len(poller.batch) == self.size or self.window == 0:
            self.free[chosen] = self.free[-1]
            self.free.pop()
            self.invoke(now, poller)
        elif len(poller.batch) == 1:
            self.later(now + self.window, self.end_window, poller, poller.opened)

    def end_window(self, now, poller, opened):
        if opened == poller.opened:
            self.free.remove(poller)
            self.invoke(now, poller)

    def invoke(self, now, poller):
        cold = self.environments.start(now)
        if cold is None:
            self.later(now + 1.0, self.invoke, poller)
            return
        finish_times = self.work.finish_times(len(poller.batch))
        self.environments.occupy(now + cold, finish_times[-1])
        self.run.take(poller.batch, self.lag, now, now + cold, finish_times)
        poller.batch = []
        poller.opened += 1
        self.later(now + cold + finish_times[-1], self.read, poller)

    def read(self, now, poller):
        """Lets a poller that is not busy take what waits."""
        waiting = self.position - self.head
        if not waiting and self.pollers > self.fewest_pollers and now - self.waited_at > 60:
            self.pollers -= 1
            return
        if waiting:
            taken = min(self.size, waiting)
            poller.batch = self.arrivals[self.head : self.head + taken]
            self.head += taken
            if taken == self.size or self.window == 0:
                self.invoke(now, poller)
                return
            self.later(now + self.window, self.end_window, poller, poller.opened)
        self.free.append(poller)

    def grow(self, now):
        """Adds a poller if messages wait."""
        self.growing = self.head < self.position and self.pollers < self.most_pollers
        if self.growing:
            self.pollers += 1
            self.later(now + self.growth_seconds, self.grow)
            self.read(now, Poller())


def queued(arrivals, lag, work, environments, size, window, most_pollers, first_pollers, pollers_a_second, seed=0, blocked_until=-math.inf):
    """Simulates an SQS queue with an event source mapping.

    A poller invokes the function when its batch has `size` messages, or `window` seconds after the first of them. While messages wait
    in the queue, pollers are added, up to `most_pollers`. After a minute without waiting messages they are removed again. The pollers
    begin to read at `blocked_until`.
    """
    mapping = EventSourceMapping(arrivals, lag, work, environments, size, window, most_pollers, first_pollers, pollers_a_second, seed)
    events, count = mapping.events, len(arrivals)
    mapping.growing = True
    for _ in range(mapping.fewest_pollers):
        mapping.later(blocked_until, mapping.read, Poller())
    mapping.later(blocked_until, mapping.grow)
    while mapping.position < count or events:
        if events and (mapping.position == count or events[0][0] <= arrivals[mapping.position]):
            now, _, action, arguments = heapq.heappop(events)
            action(now, *arguments)
        else:
            mapping.arrive(arrivals[mapping.position])
    return mapping.run
