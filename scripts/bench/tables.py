"""The tables of docs/performance.md, rendered from the raw results. A test compares them with the page."""

import functools

from paths import PAGE
from results import MEMORY_SIZES, WHOLE_CORE_MB

MISSING = "–"
FUNCTIONS = {"billing_watch": "billing-watch", "python": "handler in Python"}
PROGRAMS = {"inflate": "inflating alone, with the scan's library", "billing_watch": "`billing-watch scan`", "python": "Python: `gzip` and `json`",
            "jq": "`zcat \\| jq`", "ripgrep": "`rg -z`, which searches text and does not parse JSON", "duckdb": "DuckDB, `read_json`"}
SIZES = {"1kb": "1 KB", "30kb": "30 KB", "1mb": "1 MB", "30mb": "30 MB", "1gib": "1 GiB"}
SCANS = {
    "rules_0": "scan, no rule", "rules_1": "scan, 1 rule", "rules_bundled": "scan, the bundled rules", "rules_500": "scan, 500 rules on 50 rare sources",
    "busy_names_60": "scan, 60 rules on events of busy sources", "busy_sources": "scan, rules on two busy sources without event names",
    "splitter": "the splitter alone", "parse": "inflating, then serde_json for the whole file",
}
# The smallest process that starts the programs counts as their memory.
SMALLEST_PEAK_MIB = 11.2


class Part:
    """The figures of one part, by name."""

    def __init__(self, results, name):
        self.figures = results.get(name, {}).get("figures", {})

    def median(self, name):
        return self.figures[name]["median"] if name in self.figures else None

    def text(self, name, scale=1.0):
        """Returns a median with three significant digits, or a whole number as it is."""
        value = self.median(name)
        if isinstance(value, int) and scale == 1:
            return f"{value:,}"
        return MISSING if value is None else digits(value * scale)


def digits(value):
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"


def millions(value):
    return MISSING if value is None else f"{digits(value / 1e6)} million"


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def summary(results):
    batches, delivery, folder = (Part(results, name) for name in ("batches", "delivery", "folder"))
    rows = []
    for name, label in FUNCTIONS.items():
        for size, how in ((1, "one file an invocation"), (100, "SQS batches of 100 files")):
            key = f"{name}.memory_256"
            rows.append([f"{label}, {how}", batches.text(f"{key}.files_{size}.wall_ms", 1 / size), batches.text(f"{key}.files_{size}.dollars_per_million_files"),
                         delivery.text(f"{name}.cpu_ms") if size == 1 else MISSING, batches.text(f"{key}.peak_mib"), delivery.text(f"{name}.start_ms")])
    for name in ("jq", "python", "duckdb"):
        rows.append([f"{PROGRAMS[name]}, on a machine of your own", MISSING, MISSING, folder.text(f"small.{name}.processors_2.cpu_seconds", 1000 / 4000),
                     peak(folder, f"small.{name}.processors_2.peak_mib"), MISSING])
    return table(["what", "ms of duration for a log file", "dollars of Lambda duration for a million log files", "ms of CPU for a log file", "peak memory, MiB", "start, ms"], rows)


def peak(folder, name):
    value = folder.median(name)
    return MISSING if value is None else f"at most {digits(SMALLEST_PEAK_MIB)}" if value <= SMALLEST_PEAK_MIB else digits(value)


def delivery(results):
    part = Part(results, "delivery")
    rows = []
    for label, key, write in (
        ("process start to the first request for an event", "start_ms", "ms"), ("the same", "start_instructions", ""),
        ("first invocation, on top of a later one", "first_cpu_ms", "ms of CPU"), ("the same", "first_instructions", ""),
        ("a later invocation", "cpu_ms", "ms of CPU"), ("the same", "instructions", ""), ("the same", "allocations", "allocations"),
        ("from the event to the request at S3", "before_get_ms", "ms"), ("from S3's answer to the reply", "after_get_ms", "ms"), ("peak memory", "peak_mib", "MiB"),
    ):
        cells = [f"{part.text(f'{name}.{key}')} {write}" if write else f"{millions(part.median(f'{name}.{key}'))} instructions" for name in FUNCTIONS]
        rows.append([label, *cells])
    return table(["one small log file", *FUNCTIONS.values()], rows)


def scan(results):
    part = Part(results, "scan")
    rows = [["inflating alone, µs", *(part.text(f"{size}.inflate.microseconds") for size in SIZES)]]
    rows += [[label, *(part.text(f"{size}.{case}.ratio") for size in SIZES)] for case, label in SCANS.items()]
    return table(["a file without a matching record, × inflating alone", *SIZES.values()], rows)


def matches(results):
    part = Part(results, "scan")
    shares = {"first": "the first record matches", "percent": "1% of the records match", "all": "all records match"}
    rows = [[label, size, *(part.text(f"{key}{share}.{case}.ratio") for case in ("rules_1", "splitter", "parse"))]
            for share, label in shares.items() for key, size in (("1mb", "1 MB"), ("30mb", "30 MB"))]
    return table(["what matches", "file", "scan, × inflating alone", "the splitter alone", "inflating, then serde_json for the whole file"], rows)


def processes(results):
    part = Part(results, "scan")
    labels = {"inflate": "inflating with the scan's library", "scan": "scan, 1 rule", "igzip": "igzip (`python -m isal.igzip`)"}
    rows = [[label, *(part.text(f"process.{file}.{name}.{unit}") for file in ("30mb", "1gib") for unit in ("seconds", "ratio"))] for name, label in labels.items()]
    return table(["whole process, output discarded", "30 MB, s", "× inflating", "1 GiB, s", "× inflating"], rows)


def rules(results):
    part = Part(results, "scan")
    rows = [[label, part.text(f"rules.{case}.microseconds")] for case, label in (
        ("load_bundled", "load and compile the bundled rules"), ("load_60", "load and compile 60 rules"), ("match_one_record", "match one record"))]
    return table(["what", "µs"], rows)


def search(results, kind):
    part = Part(results, "folder")
    rows = []
    for name, label in PROGRAMS.items():
        row = [label]
        for processors in (1, 2):
            key = f"{kind}.{name}.processors_{processors}"
            wall, alone = part.median(f"{key}.wall_seconds"), part.median(f"{kind}.inflate.processors_{processors}.wall_seconds")
            row += [part.text(f"{key}.wall_seconds"), MISSING if wall is None else digits(wall / alone), part.text(f"{key}.cpu_seconds")]
        rows.append([*row, peak(part, f"{kind}.{name}.processors_2.peak_mib")])
    return table(["program", "1 processor, s", "× inflating", "s of CPU", "2 processors, s", "× inflating", "s of CPU", "MiB"], rows)


def s3(results):
    part = Part(results, "s3")
    cells = [part.text(name) for name in ("objects", "latency_ms", "wall_seconds", "files_per_second", "cpu_seconds", "peak_mib")]
    return table(["log files", "S3 answers after, ms", "s", "files a second", "s of CPU", "MiB"], [cells])


def batches(results):
    part = Part(results, "batches")
    rows = [[f"{latency} ms", f"{size:,}", *(part.text(f"latency_{latency}.files_{size}.{unit}") for unit in ("wall_ms", "files_per_second", "cpu_ms", "peak_mib"))]
            for latency in (5, 40, 150) for size in (1, 10, 100, 1000)]
    return table(["S3 answers after", "files in the batch", "ms", "files per second", "ms of CPU", "peak memory, MiB"], rows)


def memory_sizes(results):
    part = Part(results, "batches")
    rows = []
    for name, label in FUNCTIONS.items():
        for memory in MEMORY_SIZES:
            key = f"{name}.memory_{memory}"
            rows.append([label, f"{memory:,} MB, {memory / WHOLE_CORE_MB:.0%}", *(part.text(f"{key}.files_{size}.{unit}") for size in (1, 100)
                                                                        for unit in ("wall_ms", "dollars_per_million_files")), part.text(f"{key}.connections")])
    return table(["function", "memory, share of a core", "one file, ms", "dollars for a million files", "100 files, ms", "dollars for a million files", "connections"], rows)


def ledger(results):
    part = Part(results, "ledger")
    runs = {"none": "without ledger", "ledger": "with ledger", "duplicate": "a duplicate"}
    labels = {"cpu_ms": "ms of CPU", "wall_ms": "ms from the event to the reply", "get_requests": "GET of the log file", "put_requests": "PUT to the ledger",
              "read_requests": "GET of the ledger", "publish_requests": "publications"}
    rows = [[label, *(part.text(f"{run}.{key}") for run in runs)] for key, label in labels.items()]
    return table(["one log file with one alert", *runs.values()], [*rows, ["bytes of an entry", MISSING, part.text("entry_bytes"), MISSING]])


def memory(results):
    part, mixed = Part(results, "memory"), Part(results, "batches")
    rows = [
        ["1 GiB expanded, no record matches", part.text("clean_1gib.peak_mib"), part.text("clean_1gib.cpu_seconds")],
        [f"128 MiB expanded, each record matches: {part.text('matching_128mib.findings')} findings in {part.text('matching_128mib.messages')} messages",
         part.text("matching_128mib.peak_mib"), part.text("matching_128mib.cpu_seconds")],
        ["a batch of 100 small files and 10 files of 100 MB", mixed.text("mixed.peak_mib"), mixed.text("mixed.cpu_seconds")],
    ]
    return table(["what", "peak memory, MiB", "s of CPU"], rows)


def binary(results):
    part = Part(results, "memory")
    return table(["the function", "MB"], [["stripped", part.text("binary_bytes", 1e-6)], ["deflated", part.text("deflated_bytes", 1e-6)]])


def origin(results):
    rows = []
    for name, part in sorted(results.items()):
        machine, versions = part["machine"], part["versions"]
        rows.append([f"`{name}`", part["date"], f"`{part['commit']}`", f"{machine['cores']} × {machine['cpu']}, Linux {machine['kernel']}",
                     f"{versions['rustc']}; Python {versions['python']}", f"{part['seconds']} s"])
    return table(["part", "date", "commit", "machine", "versions", "took"], rows)


TABLES = {"summary": summary, "delivery": delivery, "scan": scan, "matches": matches, "processes": processes, "rules": rules, "s3": s3, "search-small": functools.partial(search, kind="small"),
          "search-big": functools.partial(search, kind="big"), "batches": batches,
          "memory-sizes": memory_sizes, "ledger": ledger, "memory": memory, "binary": binary, "origin": origin}


def rendered(page, results):
    """Returns the page with each table between its markers as the results give it."""
    for name, render in TABLES.items():
        begin, end = f"<!-- bench: {name} -->\n", "\n<!-- end -->"
        head, found, rest = page.partition(begin)
        if not found or end not in rest:
            raise SystemExit(f"{PAGE} lacks the markers of the table {name}")
        page = head + begin + render(results) + rest[rest.index(end):]
    return page


def write(results):
    """Writes the tables between their markers."""
    PAGE.write_text(rendered(PAGE.read_text(), results))
