#!/usr/bin/env python3
"""Hold Shoal's tokenizers against Hugging Face `tokenizers`, id for id.

    compare_tokenizer.py --tool build/tests/text/tokenizer_tool --data FOLDER [--write-golden]

Trains with Shoal, loads the tokenizer.json with `tokenizers` and compares the ids of every text in
FOLDER and of hostile Unicode; then does the same for files as other people write them (merges as
pairs, ignore_merges, NFC, added tokens, other split expressions). Also trains with Hugging Face on
the same text and compares the merges. --write-golden renews tests/text/golden/, which the C++ tests
read, so that a build machine needs no Python.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPLITS = ("gpt2", "llama3", "qwen2")
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests/text/golden"
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def hostile_texts():
    """Short texts at the edges: white space, case folding, marks, every plane, controls."""
    texts = [
        " ", "  ", "\n", "\r\n", " \n", "\n ", "\t\t", "a", " a", "  a", "a ", "a  ", "a  b", "a\n\nb",
        "a \n b", "\n\n\n  x", "x  \n\n  \n y", "\u00a0x", "x\u00a0\u00a0y", "\u3000\u3000\u65e5\u672c",
        "\u2028\u2029x", "\u0085x", "\u180ex y", "\u200b\u200bx", "\ufeffx", "it's IT'S It'Ll we'RE i'M",
        "'s", "'", "''", "' s", "x'\u017fy 'd'", "\u2019s", "'T'RE'VE'D", "don't!'t", "1", "12", "123",
        "1234567890", "\u00bd\u00b2\u2460 \u0661\u0662\u0663", "3.14159e-10", "x1y22z333w4444",
        "!!!", " !!!", "!!!\n\n", " !\r\n\r\nx", "\t!x", "\t x", "...a", " ...a", "<|endoftext|>",
        "a<|endoftext|>b", "<|endoftext|", " <|endoftext|> ", "<|endoftext|><|endoftext|>",
        "e\u0301a\u0308", "\u00e9", "\u1100\u1161\u11a8", "\uac01", "\u0301x", "\u0301", "a\u0301\u0302\u0303b",
        "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u05e9\u05dc\u05d5\u05dd",
        "\u0645\u0631\u062d\u0628\u0627", "\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\u65e5\u672c\u8a9e\u30c6\u30b9\u30c8",
        "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u2764\ufe0f", "1\ufe0f\u20e3",
        "\U0001f1e9\U0001f1ea", "\U00010348\U0001d400x", "\U0002ebf0\U00016100\u1c89", "\ue000\U000f0000",
        "\ufffd\ufffe\uffff", "\U0010ffff", "\x01\x02\x7f\x80\x9f", "\x1c\x1d\x1e\x1fx", "\x0b\x0cx",
        "\u01c5\u02b0\u2160\u3007", "\ufb01\ufb06 \u212b \u0130\u0131 \u1e9e", "a" * 50, "ab" * 100,
        " " * 100, " " * 100 + "x", "\n" * 60, "=" * 70, "\u65e5" * 40, "\u00c3\u00a9\u00e2\u20ac\u2122",
        "it's it's a <|end <|endo e\u0301a \u00e9a x  the  y the", "a _! b _!!. c_!!.d _!  _! ",
    ]
    return [t for t in texts if "\0" not in t]


def random_texts(count, seed):
    """Draws from pieces that the expressions treat differently, and from all of Unicode."""
    rng = random.Random(seed)
    pieces = list(" \n\r\t\u00a0\u3000'!.-_aZsStTlLvVeErRmMdD019\u017f\u00e9\u0301\u65e5\U0001f600\u00bd\u200d")
    texts = []
    for _ in range(count):
        text = ""
        for _ in range(rng.randrange(1, 40)):
            if rng.random() < 0.9:
                text += rng.choice(pieces) * rng.choice((1, 1, 1, 2, 5))
            else:
                code = rng.randrange(1, 0x110000)
                text += "" if 0xD800 <= code < 0xE000 else chr(code)
        texts.append(text)
    return [t for t in texts if t]


def corpus_texts(folder):
    """Whole files, and the same cut at odd places."""
    texts = []
    for path in sorted(folder.glob("*.txt")):
        text = path.read_text(encoding="utf-8").replace("\0", "")
        texts.append(text)
        texts += [text[i:i + 997] for i in range(0, min(len(text), 200_000), 1009)]
    return texts


def shoal_train(tool, vocab_size, split, files):
    command = [tool, "train", str(vocab_size), split, *map(str, files)]
    return subprocess.run(command, check=True, capture_output=True).stdout.decode()


def shoal_encode(tool, tokenizer_json, texts):
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(tokenizer_json)
        file.flush()
        result = subprocess.run([tool, "encode", file.name], check=True, capture_output=True,
                                input="\0".join(texts).encode() + b"\0")
    return [list(map(int, line.split())) for line in result.stdout.decode().splitlines()]


def compare(tool, name, tokenizer_json, texts):
    theirs = Tokenizer.from_str(tokenizer_json)
    ours = shoal_encode(tool, tokenizer_json, texts)
    assert len(ours) == len(texts), f"{name}: {len(ours)} lines for {len(texts)} texts"
    bad = 0
    for text, ids in zip(texts, ours):
        want = theirs.encode(text, add_special_tokens=False).ids
        if ids != want:
            bad += 1
            if bad <= 5:
                at = next((i for i, (a, b) in enumerate(zip(ids, want)) if a != b), 0)
                print(f"  {name}: {text[:60]!r}\n    ours   {ids[at:at + 12]}\n    theirs {want[at:at + 12]}")
    print(f"{name}: {len(texts) - bad} of {len(texts)} texts equal")
    return bad


def variants(base):
    """The same vocabulary in files as other writers make them."""
    def changed(**change):
        root = json.loads(base)
        for path, value in change.items():
            node = root
            *parents, last = path.split("__")
            for key in parents:
                node = node[key]
            node[last] = value
        return json.dumps(root, ensure_ascii=False)

    def split(*stages):
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        return {"type": "Sequence", "pretokenizers": [*stages, byte_level]}

    def regex(pattern, behavior="Isolated", invert=False):
        return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}

    root = json.loads(base)
    size = len(root["model"]["vocab"])
    special = root["added_tokens"]

    def added(content, number, **options):
        token = {"id": size + number, "content": content, "single_word": False, "lstrip": False,
                 "rstrip": False, "normalized": False, "special": False}
        return {**token, **options}

    gpt2 = json.loads(base)["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    yield "merges as pairs", changed(model__merges=[m.split(" ") for m in root["model"]["merges"]])
    yield "ignore_merges", changed(model__ignore_merges=True)
    yield "NFC", changed(normalizer={"type": "NFC"})
    yield "ByteLevel alone, prefix space", changed(pre_tokenizer=byte_level)
    yield "o200k", changed(pre_tokenizer=split(regex(O200K)))
    yield "digits", changed(pre_tokenizer={"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True}, {**byte_level, "add_prefix_space": False}]})
    yield "three stages", changed(pre_tokenizer=split(
        regex(r"\p{N}{1,3}"), regex("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
        regex(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
              r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")))
    yield "removed, inverted", changed(pre_tokenizer=split(regex(gpt2, "Removed", True)))
    yield "contiguous", changed(pre_tokenizer=split(regex(r"\w", "Contiguous")))
    yield "string split", changed(pre_tokenizer=split(
        {"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated", "invert": False}))
    yield "added tokens", changed(normalizer={"type": "NFC"}, added_tokens=[
        *special, added("it's", 0), added("<|end", 1, normalized=True), added("e\u0301a", 2, normalized=True),
        added(" the", 3, lstrip=True, rstrip=True), added("_!", 4, rstrip=True, special=True),
        added("_!!.", 5, lstrip=True)])


def hugging_face_training(files, split, ours, vocab_size):
    """Merges of Hugging Face's trainer over the same words."""
    tokenizer = Tokenizer(models.BPE())
    pattern = json.loads(ours)["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=2, show_progress=False,
                                  special_tokens=["<|endoftext|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator((f.read_text(encoding="utf-8") for f in files), trainer)
    theirs = json.loads(tokenizer.to_str())["model"]
    mine = json.loads(ours)["model"]
    merges = [m if isinstance(m, str) else " ".join(m) for m in theirs["merges"]]
    same = merges == mine["merges"] and theirs["vocab"] == mine["vocab"]
    print(f"training, {split}: {'equal' if same else 'DIFFERENT'} ({len(merges)} merges)")
    return 0 if same else 1


def write_golden(tool, files, texts):
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        tokenizer_json = shoal_train(tool, 500, split, files)
        theirs = Tokenizer.from_str(tokenizer_json)
        (GOLDEN / f"{split}.json").write_text(tokenizer_json, encoding="utf-8")
        cases = [{"text": t, "ids": theirs.encode(t, add_special_tokens=False).ids} for t in texts]
        lines = ",\n".join(json.dumps(c, ensure_ascii=True, separators=(",", ":")) for c in cases)
        (GOLDEN / f"{split}_ids.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tool", required=True, help="the tokenizer_tool of a build")
    parser.add_argument("--data", required=True, type=pathlib.Path, help="folder of .txt files")
    parser.add_argument("--random", type=int, default=20000, help="random texts for each tokenizer")
    parser.add_argument("--write-golden", action="store_true")
    args = parser.parse_args()
    files = sorted(args.data.glob("*.txt"))
    texts = corpus_texts(args.data) + hostile_texts() + random_texts(args.random, seed=1)
    bad = 0
    for split in SPLITS:
        trained = shoal_train(args.tool, 5000, split, files)
        bad += compare(args.tool, split, trained, texts)
        bad += hugging_face_training(files, split, trained, 5000)
        if split == "gpt2":
            for name, other in variants(trained):
                bad += compare(args.tool, name, other, texts)
    if args.write_golden:
        write_golden(args.tool, files[:1], hostile_texts() + random_texts(25, seed=2))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
