"""What PyTorch, transformers and PEFT make of folders that the product wrote.

Reads from standard input one JSON object {"cases": [...], "ids": [...]}; each case has `base`, a checkpoint's folder, and may have
`adapter`, a PEFT folder, and `parameters`, a safetensors file with the parameters of the adapter's prompt encoder.
Writes a JSON list: for each case `logprobs`, log p(ids[j+1] | ids[0..j]), and `encoder_difference`, the largest difference between PEFT's
encoder over those parameters and the adapter's prompt_embeddings, or null.
"""

import json
import sys

import torch
from peft import PeftConfig, PeftModel, PrefixEncoder, PromptEncoder
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def logprobs(case, ids):
    model = AutoModelForCausalLM.from_pretrained(case["base"], dtype=torch.float32)
    if case.get("adapter"):
        model = PeftModel.from_pretrained(model, case["adapter"])
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor([ids])).logits[0, -len(ids) :]
    scores = torch.log_softmax(logits[:-1].double(), -1)
    return scores.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


def encoder_difference(case):
    if not case.get("parameters"):
        return None
    config = PeftConfig.from_pretrained(case["adapter"])
    config.inference_mode = False
    encoder = (PrefixEncoder if config.peft_type == "PREFIX_TUNING" else PromptEncoder)(config)
    prefix = "prompt_encoder."
    encoder.load_state_dict({name.removeprefix(prefix): value for name, value in load_file(case["parameters"]).items()})
    with torch.no_grad():
        made = encoder(torch.arange(config.num_virtual_tokens)[None])[0]
    saved = load_file(f"{case['adapter']}/adapter_model.safetensors")["prompt_embeddings"]
    return (made - saved).abs().max().item()


request = json.load(sys.stdin)
json.dump(
    [
        {"logprobs": logprobs(case, request["ids"]), "encoder_difference": encoder_difference(case)}
        for case in request["cases"]
    ],
    sys.stdout,
)
