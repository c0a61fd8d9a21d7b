"""python3 -m nbbench.unique LAYOUT: what a store has that keeps the layers of an image both as blobs and unpacked, in bytes.

Each blob and each content of a file counts once, in blocks of 4 KiB. A process of its own: what it needs in memory would be seen
in the builders that are started afterwards.
"""
import hashlib, os, sys, tarfile


def unique_bytes(layout):
    total, files, blobs = 0, {}, os.path.join(layout, "blobs/sha256")
    for name in os.listdir(blobs):
        path = os.path.join(blobs, name)
        total += in_blocks(os.path.getsize(path))
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as layer:
                for member in layer:
                    if member.isreg():
                        files[content_of(layer.extractfile(member))] = in_blocks(member.size)
    return total + sum(files.values())


def content_of(file):
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.digest()


def in_blocks(size):
    return (size + 4095) // 4096 * 4096


if __name__ == "__main__":
    print(unique_bytes(sys.argv[1]))
