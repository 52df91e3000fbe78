"""A plain model in ONNX Runtime behind transformers' pipeline, in a process of its own; see `benchmarks.plain`.

    PYTHON benchmarks/onnx_peer.py BUNDLE

PYTHON is an interpreter with optimum-onnx and onnxruntime; it needs nothing of metacross. For every line on standard
input, {"texts": [...], "batch": N}, one is written: {"seconds": [wall, processor], "entities": [[...], ...]}.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from contextlib import redirect_stdout
from typing import Any


def load(bundle: str) -> Any:
    """The pipeline; the bundle is exported first, which takes a while."""
    import onnxruntime
    from optimum.onnxruntime import ORTModelForTokenClassification
    from transformers import PreTrainedTokenizerFast, pipeline

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("config.json", "model.safetensors"):
            os.symlink(os.path.join(os.path.abspath(bundle), name), os.path.join(folder, name))
        model = ORTModelForTokenClassification.from_pretrained(folder, export=True, session_options=options)
    # Read without its class's name, which the transformers that optimum wants may not know.
    with open(os.path.join(bundle, "tokenizer_config.json"), encoding="utf-8") as file:
        special = {key: value for key, value in json.load(file).items() if key.endswith("_token")}
    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(tokenizer_file=os.path.join(bundle, "tokenizer.json"), **special)
    return pipeline("token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="simple")


def main(bundle: str) -> None:
    """Answers until standard input ends."""
    with redirect_stdout(sys.stderr):
        tagger = load(bundle)
    for line in sys.stdin:
        asked = json.loads(line)
        texts, size = asked["texts"], asked["batch"]
        wall, processor = time.perf_counter(), time.process_time()
        lists = [texts[at : at + size] for at in range(0, len(texts), size)]
        found = [answer for some in lists for answer in tagger(some, batch_size=size)]
        seconds = [time.perf_counter() - wall, time.process_time() - processor]
        entities = [[[e["start"], e["end"], e["entity_group"]] for e in answer] for answer in found]
        print(json.dumps({"seconds": seconds, "entities": entities}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
