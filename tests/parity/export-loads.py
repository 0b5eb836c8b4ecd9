"""What transformers and the gguf package make of merged exports.

Reads from standard input one JSON object {"ids", "formats", "text", "messages", "folder", "gguf", "q8"}: an export as safetensors, and
two as GGUF, of types f32 and q8_0. Writes a JSON object: `logprobs` of the ids for each of the formats; `text_ids` and `chat_ids` as the folder's tokenizer gives
them; `fields` of the GGUF; `q8_differences`, the names of the tensors whose q8_0 bytes are not those that gguf makes of the f32 ones.
"""

import json
import os
import sys

import gguf
import numpy
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def logprobs(model, ids):
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor([ids])).logits[0]
    scores = torch.log_softmax(logits[:-1].double(), -1)
    return scores.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


def q8_differences(plain, quantized):
    values = {tensor.name: tensor.data for tensor in gguf.GGUFReader(plain).tensors}
    different = []
    for tensor in gguf.GGUFReader(quantized).tensors:
        kind = tensor.tensor_type
        made = gguf.quants.quantize(values[tensor.name], kind)
        if not numpy.array_equal(made.view(numpy.uint8).ravel(), tensor.data.view(numpy.uint8).ravel()):
            different.append(f"{tensor.name} ({kind.name})")
    return different


request = json.load(sys.stdin)
ids = request["ids"]
tokenizer = AutoTokenizer.from_pretrained(request["folder"])
chat = tokenizer.apply_chat_template(request["messages"], add_generation_prompt=True, tokenize=False)
folder, name = os.path.split(request["gguf"])
reader = gguf.GGUFReader(request["gguf"])
print(
    json.dumps(
        {
            "logprobs": {
                kind: logprobs(AutoModelForCausalLM.from_pretrained(*where, **keys, dtype=torch.float32), ids)
                for kind, where, keys in [
                    ("safetensors", [request["folder"]], {}),
                    ("gguf", [folder], {"gguf_file": name}),
                ]
                if kind in request["formats"]
            },
            "text_ids": tokenizer(request["text"])["input_ids"],
            "chat_ids": tokenizer(chat, add_special_tokens=False)["input_ids"],
            "fields": {
                key: reader.fields[key].contents()
                for key in ["general.architecture", "tokenizer.ggml.pre", "tokenizer.ggml.eos_token_id"]
            },
            "q8_differences": q8_differences(request["gguf"], request["q8"]),
        }
    )
)
