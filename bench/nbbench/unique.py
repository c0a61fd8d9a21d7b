"""python3 -m nbbench.unique LAYOUT: what a store has to hold that keeps the layers of a layout both as blobs and unpacked.

Two numbers, of bytes in blocks of 4 KiB: each blob, and each file and directory of each layer, once; and the same where
files of equal content count once, whichever layers have them. A layer that is there twice, packed in two ways, counts once. A process
of its own: what it needs in memory would be seen in the builders that are started afterwards.
"""
import gzip, hashlib, os, sys, tarfile

BLOCK = 4096


def unique_bytes(layout):
    blobs = os.path.join(layout, "blobs/sha256")
    packed, unpacked, contents, known = 0, 0, {}, set()
    for name in sorted(os.listdir(blobs)):
        path = os.path.join(blobs, name)
        if name.startswith("."):
            continue
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
