"""Serve a repository in this process' care, ask it for the depth of a photograph, keep the results.

Run `sapiens export depth ...` first, or `make demo`, which does both.
"""

import argparse
from pathlib import Path

from sapiens_client import SapiensClient
from sapiens_server import serve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--repository", type=Path, default=Path("models"))
    parser.add_argument("--output", type=Path, default=Path("out"))
    options = parser.parse_args()

    options.output.mkdir(exist_ok=True)
    with (
        serve(options.repository, grpc_port=0) as server,
        SapiensClient(server.grpc_url) as client,
    ):
        result = client.depth(options.photo)
        for suffix in ("png", "16.png", "npy"):
            for path in result.save(options.output / f"{options.photo.stem}_depth.{suffix}"):
                print(path)
        height, width = result.image_hw
        total_ms = result.timing.total_s * 1e3
        print(f"{height} x {width} pixels in {total_ms:.0f} ms from Triton at {server.grpc_url}")
        if result.model.untrained:
            print("The weights are random: this shows the way an image travels, not how well Sapiens sees.")


if __name__ == "__main__":
    main()
