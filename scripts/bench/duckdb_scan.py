"""Counts the records of a source in the log files of a folder with DuckDB: `duckdb_scan.py FOLDER SOURCE THREADS`."""

import sys

import duckdb

# A log file is one JSON value.
LARGEST_BYTES = 256 << 20
QUERY = """
    SELECT count(*) FROM (
        SELECT unnest(Records) AS record
        FROM read_json($files, columns = {Records: 'STRUCT(eventSource VARCHAR)[]'}, maximum_object_size = $largest)
    ) WHERE record.eventSource = $source
"""

if __name__ == "__main__":
    folder, source, threads = sys.argv[1:]
    connection = duckdb.connect(config={"threads": int(threads)})
    parameters = {"files": f"{folder}/*.json.gz", "largest": LARGEST_BYTES, "source": source}
    print(connection.execute(QUERY, parameters).fetchone()[0])
