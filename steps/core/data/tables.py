"""Table files: from bytes to a data frame, whose cells are as they are written."""

import io
import json
import warnings

import pandas as pd

from steps.core.data.files import Folder
from steps.core.data.text import decode_text, delimiter_of
from steps.core.system.errors import DataError

TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
MAX_ROWS, MAX_TABLE_BYTES = 20_000_000, 2**32  # of a table, which is held in memory
NAMES = {"\t": "tabs", ";": "semicolons"}


def parse_table(folder: Folder) -> pd.DataFrame:
    """Read the table that is the folder's root as it is.

    Raises:
        DataError: It cannot be parsed.
    """
    return parse_bytes(folder.root, folder.read_root())[0]


def parse_bytes(name: str, data: bytes, headed: bool = True) -> tuple[pd.DataFrame, str]:
    """Parse a table by its ending; return it, and what is unusual about how it is written, in words.

    One of text that is not `headed` has no names in its first line: its columns are called by numbers.

    Raises:
        DataError: It cannot be parsed.
    """
    lower = name.lower()
    try:
        if lower.endswith(".parquet"):
            return parse_parquet(name, data).rename(columns=str), ""
        text, encoding = decode_text(data)
        if lower.endswith(".jsonl"):
            return parse_json_lines(text), encoding
        delimiter = "\t" if lower.endswith(".tsv") else delimiter_of(text)
        said = [encoding, f"cells divided by {NAMES[delimiter]}" if delimiter in NAMES else ""]
        said += [] if headed else ["no names in the first line"]
        return parse_csv(text, delimiter, headed), ", ".join(word for word in said if word)
    except MemoryError:
        raise
    except Exception as error:  # the parsers may fail in any way on bytes made for it
        raise DataError(
            f"{name} cannot be read as a manifest in UTF-8: {error}; save it as comma-separated "
            "UTF-8, or as parquet"
        ) from None


def parse_csv(text: str, delimiter: str, headed: bool = True) -> pd.DataFrame:
    """Parse cells as texts, empty ones as missing; a row that is longer than the header is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        table = pd.read_csv(
            io.StringIO(text),
            sep=delimiter,
            header=0 if headed else None,
            dtype=str,
            keep_default_na=False,
            na_values=[""],
            index_col=False,
        )
    return table if headed else table.rename(columns=lambda number: f"column {number + 1}")


def parse_json_lines(text: str) -> pd.DataFrame:
    """Parse a json object a line.

    Raises:
        ValueError: A line is none.
    """
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a line is no json object")
    return pd.DataFrame(rows, dtype=object)


def parse_parquet(name: str, data: bytes) -> pd.DataFrame:
    """Parse a parquet file whose header claims no more than a table may hold.

    Raises:
        DataError: It claims more: a file of some bytes can repeat a value without end.
    """
    from pyarrow.parquet import ParquetFile

    about = ParquetFile(io.BytesIO(data)).metadata
    size = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
    if about.num_rows > MAX_ROWS or size > MAX_TABLE_BYTES:
        raise DataError(
            f"{name} has {about.num_rows} rows of {size} bytes, more than {MAX_ROWS} or {MAX_TABLE_BYTES}: "
            "split the data set"
        )
    return pd.read_parquet(io.BytesIO(data))
