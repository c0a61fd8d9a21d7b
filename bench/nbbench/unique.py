"""python3 -m nbbench.unique STORE: what a store of nativebuild has to hold that keeps layers both as blobs and unpacked.

Two numbers, of bytes in blocks of 4 KiB: each blob, and each file and directory of each layer, once; and the same where
files of equal content count once, whichever layers have them. Only blobs count that an image or the record of a step names, and a
layer that is there twice, packed in two ways, counts once: what nobody needs must show. A process of its own: what it needs in memory
would be seen in the builders that are started afterwards.
"""
import gzip, hashlib, json, os, sys, tarfile

BLOCK = 4096


def unique_bytes(store):
    packed, unpacked, contents, known = 0, 0, {}, set()
    for path in sorted(named_blobs(store)):
        if tarfile.is_tarfile(path):
            if (diff_id := diff_id_of(path)) in known:
                continue
            known.add(diff_id)
            files, directories = files_of(path)
            packed += directories * BLOCK
            unpacked += sum(size for size, _ in files)
            contents.update((digest, size) for size, digest in files)
        packed += in_blocks(os.path.getsize(path))
    return packed + unpacked, packed + sum(contents.values())


def named_blobs(store):
    """Paths of the blobs that images and step records name, and of those that these name."""
    steps = os.path.join(store, "cache/steps")
    waiting = [os.path.join(store, "images/index.json")] + [os.path.join(steps, name) for name in os.listdir(steps)]
    found = set()
    while waiting:
        for digest in digests_in(document(waiting.pop())):
            blob = os.path.join(store, "images/blobs/sha256", digest)
            if blob not in found and os.path.exists(blob):
                found.add(blob)
                waiting.append(blob)
    return found


def document(path):
    """The JSON of a file, which a layer is not."""
    with open(path, "rb") as file:
        if file.read(1) != b"{":
            return None
        file.seek(0)
        return json.load(file)


def digests_in(value):
    if isinstance(value, str):
        return {value[len("sha256:"):]} if value.startswith("sha256:") else set()
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return set().union(*map(digests_in, inside))


def diff_id_of(path):
    with open(path, "rb") as blob:
        is_packed = blob.read(2) == b"\x1f\x8b"
    with (gzip.open if is_packed else open)(path, "rb") as layer:
        return content_of(layer)


def files_of(path):
    """Size and digest of each regular file of a layer, a hard link is none, and how many directories it has with its root."""
    files, directories = [], {"."}
    with tarfile.open(path) as layer:
        for member in layer:
            if member.isdir():
                directories.add(os.path.normpath(member.name))
            elif member.isreg():
                files.append((in_blocks(member.size), content_of(layer.extractfile(member))))
    return files, len(directories)


def content_of(file):
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.digest()


def in_blocks(size):
    return (size + BLOCK - 1) // BLOCK * BLOCK


if __name__ == "__main__":
    print(*unique_bytes(sys.argv[1]))
