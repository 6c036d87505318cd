"""Ask a fleet about all images of a folder or bucket, from a Ray cluster or this machine; Parquet comes out.

    pip install 'ray[data]' sapiens-triton      # and s3fs or gcsfs for buckets
    python examples/ray_batch.py photos out --server gpu-1:8001 --server gpu-2:8001
    python examples/ray_batch.py s3://bucket/photos s3://bucket/depth --server gpu-1:8001 --address auto

Every file of the output has the rows of some images: `key` (the image's path), `error` (why it is no image;
else empty), `dtype`, `shape`, `data`:

    depth = np.frombuffer(row["data"], row["dtype"]).reshape(row["shape"])

Files appear whole or not at all, under names that their images decide. So each image is in one row, whatever
dies and is started again: what is there is left out, and whoever repeats a piece writes the same file.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from sapiens_client import InvalidInputError, SapiensClient

RESULTS = {"depth": "depth", "normal": "normals", "seg": "class_map", "features": "features"}
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "error": pa.string(),
        "dtype": pa.string(),
        "shape": pa.list_(pa.int32()),
        "data": pa.large_binary(),
    }
)
OBJECT_STORE_BYTES = 100 * 2**20  # names of images alone go through it


class Ask:
    """What an actor does with a piece of the images.

    Args:
        client: Of the fleet; every actor gets a copy, which connects by itself.
        options: The command line.
    """

    def __init__(self, client: SapiensClient, options: argparse.Namespace) -> None:
        self._client, self._options = client, options
        self._images, self._folder = fsspec.url_to_fs(options.images)
        self._files, self._output = fsspec.url_to_fs(options.output)

    def __call__(self, piece: dict[str, Any]) -> dict[str, Any]:
        """Ask about the images of a piece and write its file."""
        keys = [str(key) for key in piece["keys"]]
        rows = list(self._rows(keys))
        name = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32]
        part = f"{self._output}/.{name}.part"
        with self._files.open(part, "wb") as file:
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file, compression="zstd")
        self._files.mv(part, f"{self._output}/{name}.parquet")
        return {"images": len(rows), "refused": sum(bool(row["error"]) for row in rows)}

    def _rows(self, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
        how = {"concurrency": self._options.at_a_time, "on_error": "yield"}
        for key, item in zip(keys, self._client.map(self._ask, keys, **how), strict=True):
            if item.error and not isinstance(item.error, InvalidInputError):
                raise item.error  # of the fleet, not of the image: nothing of this piece is written
            row: dict[str, Any] = {"key": key, "error": str(item.error or "")}
            if not item.error:
                array = item.result
                row |= {"dtype": array.dtype.str, "shape": array.shape, "data": array.tobytes()}
            yield row

    def _ask(self, key: str) -> np.ndarray:
        image = self._images.cat_file(f"{self._folder}/{key}")
        result = getattr(self._client, self._options.task)(image)
        return np.ascontiguousarray(getattr(result, RESULTS[self._options.task]))


def keys_in(url: str) -> list[str]:
    """Return the paths of all images below a folder, relative to it."""
    files, folder = fsspec.url_to_fs(url)
    paths = (path for path in files.find(folder) if path.lower().endswith(SUFFIXES))
    return sorted(path.removeprefix(f"{folder}/") for path in paths)


def keys_done(url: str) -> set[str]:
    """Return the paths of the images that are in the output already."""
    files, folder = fsspec.url_to_fs(url)
    if not files.exists(folder):
        files.makedirs(folder)
    done: set[str] = set()
    for path in files.glob(f"{folder}/*.parquet"):
        with files.open(path) as file:
            done.update(pq.read_table(file, columns=["key"])["key"].to_pylist())
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("images", help="folder, or a URL that fsspec knows")
    parser.add_argument("output", help="likewise")
    parser.add_argument("--server", action="append", required=True, help="address; again for each")
    parser.add_argument("--task", choices=RESULTS, default="depth")
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--at-a-time", type=int, default=8, help="images under way, per actor")
    parser.add_argument("--piece", type=int, default=32, help="images per file")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for an image, with all tries")
    parser.add_argument("--address", help="of a Ray cluster, such as auto; else this machine alone")
    options = parser.parse_args()

    done = keys_done(options.output)
    todo = [key for key in keys_in(options.images) if key not in done]
    print(f"{len(done)} images are done, {len(todo)} are to do", flush=True)
    starts = range(0, len(todo), options.piece)
    pieces = [{"keys": todo[start : start + options.piece]} for start in starts]
    if not pieces:
        return
    here = {"num_cpus": options.actors, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    ray.init(address=options.address, **({} if options.address else here))
    told = ray.data.from_items(pieces, override_num_blocks=len(pieces)).map(
        Ask,
        fn_constructor_args=(SapiensClient(options.server, timeout_s=options.timeout), options),
        compute=ray.data.ActorPoolStrategy(size=options.actors),
        num_cpus=0.5,  # actors wait
    )
    num_images = num_refused = 0
    for row in told.iter_rows():
        num_images += row["images"]
        num_refused += row["refused"]
        print(f"{num_images} of {len(todo)}, {num_refused} refused", flush=True)


if __name__ == "__main__":
    main()
