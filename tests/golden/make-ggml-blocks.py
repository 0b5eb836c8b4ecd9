"""Writes ggml-blocks.json: random blocks of each quantized GGML type and their values, by llama.cpp's Python package.

    pip install gguf==0.19.0 numpy && python tests/golden/make-ggml-blocks.py

The bytes of codes are uniform; the f16 fields (d, m, dmin) are set to ordinary magnitudes. Fixed seed, so a rerun gives the same file.
"""

import base64
import json
import pathlib

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

# Type -> byte offsets of its f16 fields.
HALVES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}


def blocks(rng, name):
    qtype = GGMLQuantizationType[name]
    block_size, block_bytes = GGML_QUANT_SIZES[qtype]
    count = 512 // block_size
    data = rng.integers(0, 256, (count, block_bytes), dtype=np.uint8)
    for offset in HALVES[name]:
        halves = (rng.normal(0, 0.05, (count, 1))).astype("<f2")
        data[:, offset : offset + 2] = halves.view(np.uint8)
    values = dequantize(data.reshape(1, -1), qtype).astype("<f4").ravel()
    return {
        "bytes": base64.b64encode(data.tobytes()).decode(),
        "values": base64.b64encode(values.tobytes()).decode(),
    }


rng = np.random.default_rng(20240607)
golden = {name: blocks(rng, name) for name in HALVES}
path = pathlib.Path(__file__).with_name("ggml-blocks.json")
path.write_text(json.dumps(golden, indent=2) + "\n")
