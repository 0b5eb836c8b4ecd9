"""Writes pre-tokenizer-splits.json: varied texts and how each pre-tokenizer cuts them, by Hugging Face's Python package.

    pip install tokenizers==0.23.3 && python tests/golden/make-pre-tokenizer-splits.py

The definitions are those of the published tokenizer.json files, under the names that GGUF files use for them. A text's pieces are written
as one string, after normalization, with a bar between them. Fixed seed, so a rerun gives the same file.
"""

import json
import pathlib
import random

from tokenizers import Regex, normalizers
from tokenizers import pre_tokenizers as pre

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS_THEN_DIGITS = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
QWEN35 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + SPACES
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES
)


def cut(pattern):
    split = pre.Split(Regex(pattern), behavior="isolated", invert=False)
    return pre.Sequence([split, pre.ByteLevel(add_prefix_space=False, use_regex=False)])


GPT2 = pre.ByteLevel(add_prefix_space=False, use_regex=True)
NOTHING = normalizers.Sequence([])
DEFINITIONS = {
    "llama-bpe": (NOTHING, cut(WORDS_THEN_DIGITS % r"\p{N}{1,3}")),
    "qwen2": (normalizers.NFC(), cut(WORDS_THEN_DIGITS % r"\p{N}")),
    "qwen35": (normalizers.NFC(), cut(QWEN35)),
    "tekken": (NOTHING, cut(TEKKEN)),
    "gpt-2": (NOTHING, GPT2),
    "smollm": (NOTHING, pre.Sequence([pre.Digits(individual_digits=True), GPT2])),
}

TEXTS = [
    "Hello world, it's a test.",
    "I'm you're we've he'd she'll it's don't",
    "I'M YOU'RE WE'VE HE'D SHE'LL IT'S DON'T",
    "'sun 'Till 'dare x'y '' 's's ’s 'ſ x'ſun y'Sun z'sun",
    "1 12 123 1234 12345 1234567 3.14159 1,000,000 0x1F 2e10",
    "٣٤٥ २०२४ ²³ ½ Ⅷ ㉈ 𝟘𝟙 五〇",
    "中文字符,没有空格。ひらがな カタカナ 한국어 混ぜ123",
    "مرحبا بالعالم، كَيْفَ الحال؟ العدد ١٢٣",
    "हिन्दी ภาษาไทย ก็ தமிழ்",
    "e\u0301 n\u0303 x\u0323\u0307 \u0301 A\u030a \u212b",
    "👩‍👩‍👧 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 1️⃣ ok😀ok",
    "a  b   c    d \t e\t\tf",
    "line\nline\n\nline \n \n  line\r\nline\r\r\nline\n\n\n",
    "   leading and trailing   ",
    "\n\n  \n",
    "def f(x):\n    return x**2  # square\n\n\tif a!=b: pass;;\n",
    "https://example.com/a_b?c=d&e=%20#f user@mail.org C:\\dir\\file.txt",
    "camelCase HTTPServer McDonald ǅungla İstanbul ıı Straße ﬁn",
    "a\u00a0b\u3000c\u2028d\u2029e\u0085f\u200bg\ufeffh\u202fi\x1cj\x0bk\x0cl",
    "price: $5.00 €7 ¥100 ... !!! -- ~~ `code` \"quoted\" «x» (y)",
    "\x00\x7f\u00ad\u200d\ufe0f\u0378\ue000\U000e0001",
]
ATOMS = (
    ["a", "Bc", "é", "e\u0301", "ſ", "ß", "ǅ", "'s", "'S", "'ſ", "'LL", "'", "1", "23", "4567", "٣", "²", "Ⅷ"]
    + ["中", "カ", "ع", "\u064e", "ก็", "👩‍👧", "😀", "🇩🇪", "\u200d", "\u200b", "\ufeff", "\u00a0", "\u3000", "\u0085"]
    + ["\x1c", " ", " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r", ".", "...", "/", "_", "-", "$", "^", "ʰ", "𝒜"]
)


def pieces(name, text):
    assert "|" not in text
    normalizer, pre_tokenizer = DEFINITIONS[name]
    normalized = normalizer.normalize_str(text)
    cuts = [normalized[start:end] for _, (start, end) in pre_tokenizer.pre_tokenize_str(normalized)]
    assert "".join(cuts) == normalized
    return "|".join(cuts)


rng = random.Random(20240607)
texts = TEXTS + ["".join(rng.choices(ATOMS, k=rng.randint(3, 14))) for _ in range(40)]
golden = {"texts": texts, "pieces": {name: [pieces(name, text) for text in texts] for name in DEFINITIONS}}
path = pathlib.Path(__file__).with_name("pre-tokenizer-splits.json")
path.write_text(json.dumps(golden, indent=2) + "\n")
