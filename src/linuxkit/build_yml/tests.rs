//! Whole files as written by users, and whole errors.

use super::*;
use crate::oci::reference::Reference;

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

fn read(text: &str) -> Result<BuildYml> {
    parse(&Arc::new(SourceFile::new("pkg/build.yml", text)))
}

fn good(text: &str) -> BuildYml {
    read(text).unwrap()
}

fn bad(text: &str, expect: &str) {
    assert_eq!(format!("{:?}", read(text).unwrap_err()), expect, "{text}");
}

#[test]
fn a_name_is_enough() {
    let yml = good("image: foo\n");
    let texts = [yml.image, yml.org, yml.tag, yml.dockerfile, yml.gitrepo];
    let expect =
        ["foo", "linuxkit", "{{.Hash}}", "Dockerfile", "https://github.com/linuxkit/linuxkit"];
    assert_eq!(texts, expect);
    assert_eq!(yml.arches, ["amd64", "arm64", "s390x"]);
    assert_eq!((yml.network, yml.disable_cache, yml.disable_content_trust), (false, false, None));
    assert!(yml.extra_sources.is_empty() && yml.build_args.is_empty());
    assert!(yml.config.is_none() && yml.depends.is_none());
}

#[test]
fn every_key_is_read() {
    let text = format!(
        "image: 12\norg: reg.example.com/a\ntag: v1-{{{{.Hash}}}}\ndockerfile: sub/Dockerfile.x\n\
         arches: [amd64, riscv64, amd64]\nextra-sources:\n  - ../shared:/src/shared\ngitrepo: ''\nnetwork: yes\n\
         disable-cache: On\ndisable-content-trust: true\nconfig:\n  net: host\nbuildArgs:\n  - ' K = v=w '\n  - EMPTY=\n\
         depends:\n  docker-images:\n    list: [a@{DIGEST}]\n    target-dir: images/\n"
    );
    let yml = good(&text);
    assert_eq!([&yml.image, &yml.org, &yml.gitrepo], ["12", "reg.example.com/a", ""]);
    assert_eq!([&yml.tag, &yml.dockerfile], ["v1-{{.Hash}}", "sub/Dockerfile.x"]);
    assert_eq!(yml.arches, ["amd64", "riscv64"]);
    let source = &yml.extra_sources[0];
    assert_eq!((&*source.source, &*source.destination), ("../shared", "/src/shared"));
    assert_eq!(
        (yml.network, yml.disable_cache, yml.disable_content_trust),
        (true, true, Some(true))
    );
    assert_eq!(yml.config.as_deref(), Some(r#"{"net":"host"}"#));
    let args: Vec<_> = yml.build_args.iter().map(|arg| (&*arg.name, &*arg.value)).collect();
    assert_eq!(args, [(" K ", " v=w "), ("EMPTY", "")]);
    let images = vec![Reference::parse(&format!("a@{DIGEST}")).unwrap()];
    let target = DependTarget::Directory("images".to_owned());
    assert_eq!(yml.depends, Some(Depends { images: ImageList::Given(images), target }));
}

#[test]
fn null_leaves_the_default_but_not_of_lists() {
    let yml = good(
        "image: foo\norg:\ntag: ''\ndockerfile: ~\narches:\nnetwork:\nconfig:\nbuildArgs:\ndepends:\n",
    );
    assert_eq!([yml.org, yml.tag, yml.dockerfile], ["linuxkit", "{{.Hash}}", "Dockerfile"]);
    assert!(yml.arches.is_empty() && yml.build_args.is_empty());
    assert!(!yml.network && yml.config.is_none() && yml.depends.is_none());
    assert!(good("image: foo\narches: []\n").arches.is_empty());
}

#[test]
fn files_without_a_name_are_errors() {
    bad(
        "",
        "Package: pkg/build.yml:1:1: the file is empty [help: name the image at least: `image: NAME`]",
    );
    let required = "`image` is required [help: name it: `image: NAME`]";
    bad("---\n", &format!("Package: pkg/build.yml:1:4: {required}"));
    bad("# c\norg: a\n", &format!("Package: pkg/build.yml:2:1: {required}"));
    bad("org: a\nimage: ''\n", &format!("Package: pkg/build.yml:2:1: {required}"));
    bad("image:\n", &format!("Package: pkg/build.yml:1:1: {required}"));
    bad(
        "- image: a\n",
        "Package: pkg/build.yml:1:1: the file must be a mapping of keys to values, not a list",
    );
    bad(
        "image\n",
        "Package: pkg/build.yml:1:1: the file must be a mapping of keys to values, not the text `image`",
    );
}

#[test]
fn mistakes_are_found_together_with_their_places() {
    bad(
        "imag: a\nimage: [b]\nimage: c\nunknown: 1\narches: amd64\nnetwork: \"true\"\ndisable-cache: 1\n\
         extra-sources: ['a', 'a:b:c', ':b']\nbuildArgs: [A, =b]\ndockerfile: ../D\n",
        "Package: pkg/build.yml:1:1: unknown key `imag` [help: did you mean `image`?]\n\
         Package: pkg/build.yml:2:8: `image` must be text, not a list\n\
         Package: pkg/build.yml:3:1: `image` is given twice: it was given on line 2\n\
         Package: pkg/build.yml:4:1: unknown key `unknown` [help: known keys are image, org, tag, dockerfile, arches, \
         extra-sources, gitrepo, network, disable-cache, disable-content-trust, config, buildArgs, depends]\n\
         Package: pkg/build.yml:5:9: `arches` must be a list, not the text `amd64` \
         [help: for a list of one element write `[amd64]`]\n\
         Package: pkg/build.yml:6:10: `network` must be true or false, not the text `true` [help: write it without quotes]\n\
         Package: pkg/build.yml:7:16: `disable-cache` must be true or false, not the number `1`\n\
         Package: pkg/build.yml:8:17: `a` is not of the form SOURCE:DESTINATION [help: for example `../shared:src/shared`]\n\
         Package: pkg/build.yml:8:22: `a:b:c` is not of the form SOURCE:DESTINATION [help: for example `../shared:src/shared`]\n\
         Package: pkg/build.yml:8:31: `:b` is not of the form SOURCE:DESTINATION [help: for example `../shared:src/shared`]\n\
         Package: pkg/build.yml:9:13: build argument `A` has no `=` [help: write it as NAME=VALUE; the value may be empty]\n\
         Package: pkg/build.yml:9:16: build argument `=b` has no name [help: write it as NAME=VALUE; the value may be empty]\n\
         Package: pkg/build.yml:10:13: `dockerfile` may not hold `..`: `../D` \
         [help: the Dockerfile must stand in the package directory]",
    );
}

#[test]
fn architectures_have_names_of_go() {
    bad(
        "image: a\narches: [x86_64, aarch64, amd46, vax]\n",
        "Package: pkg/build.yml:2:10: unknown architecture `x86_64` [help: did you mean `amd64`?]\n\
         Package: pkg/build.yml:2:18: unknown architecture `aarch64` [help: did you mean `arm64`?]\n\
         Package: pkg/build.yml:2:27: unknown architecture `amd46` [help: did you mean `amd64`?]\n\
         Package: pkg/build.yml:2:34: unknown architecture `vax` [help: known architectures are 386, amd64, arm, arm64, \
         loong64, mips, mips64, mips64le, mipsle, ppc64, ppc64le, riscv64, s390x]",
    );
}

fn depends(text: &str) -> Option<Depends> {
    good(&format!("image: a\ndepends:\n  docker-images: {{{text}}}\n")).depends
}

#[test]
fn images_of_depends_come_from_a_list_or_a_file() {
    assert_eq!(depends(""), None);
    assert_eq!(depends("list: [], target: x"), None);
    let expect = Depends {
        images: ImageList::File { path: "images.txt".to_owned(), span: Span::new(47, 62) },
        target: DependTarget::Archive("sub/x.tar".to_owned()),
    };
    let text = "from-file: a/../images.txt, target: ./sub//x.tar, list: [], target-dir: ''";
    assert_eq!(depends(text), Some(expect));
}

#[test]
fn wrong_depends_are_errors() {
    let wrong = |text: &str, expect: &str| {
        bad(&format!("image: a\ndepends:\n  docker-images:\n{text}"), expect);
    };
    wrong(
        &format!("    list: [a@{DIGEST}]\n    from-file: f\n    target: t\n    target-dir: d\n"),
        "Package: pkg/build.yml:5:16: `list` and `from-file` of `depends.docker-images` exclude each other \
         [help: remove one of them]\n\
         Package: pkg/build.yml:7:17: `target` and `target-dir` of `depends.docker-images` exclude each other \
         [help: remove one of them]",
    );
    wrong(
        "    target: /t\n    target-dir: a/..\n    from-file: ../x\n    lists: []\n",
        "Package: pkg/build.yml:4:13: `depends.docker-images.target` must be relative to the package directory: `/t`\n\
         Package: pkg/build.yml:5:17: `depends.docker-images.target-dir` must not be the package directory itself: `a/..`\n\
         Package: pkg/build.yml:6:16: `depends.docker-images.from-file` must be within the package directory: `../x`\n\
         Package: pkg/build.yml:7:5: unknown key `lists` in `depends.docker-images` [help: did you mean `list`?]",
    );
    wrong(
        "    list: ['docker.io/library/alpine:3.13', 'a@sha256:0']\n",
        "Package: pkg/build.yml:4:5: `depends.docker-images` does not say where to save the images \
         [help: give `target` or `target-dir`]\n\
         Package: pkg/build.yml:4:12: image `docker.io/library/alpine:3.13` lacks a digest \
         [help: name it as NAME@sha256:…, so that the package always gets the same image]\n\
         Image: pkg/build.yml:4:45: `a@sha256:0` is not a valid image name: what follows `@` must be `sha256:` \
         and 64 lowercase hex digits",
    );
    bad(
        "image: a\ndepends: {docker-image: {}}\n",
        "Package: pkg/build.yml:2:11: unknown key `docker-image` in `depends` [help: did you mean `docker-images`?]",
    );
}

#[test]
fn lists_of_images_have_one_a_line() {
    let list = |text: &str| parse_image_list(&Arc::new(SourceFile::new("images.txt", text)));
    let text = format!("# images\n\na@{DIGEST}\r\nreg.example.com/b/c:1@{DIGEST}");
    let names: Vec<String> = list(&text).unwrap().iter().map(ToString::to_string).collect();
    let expect =
        [format!("docker.io/library/a@{DIGEST}"), format!("reg.example.com/b/c:1@{DIGEST}")];
    assert_eq!(names, expect);
    let error = list("\nA\nb\n").unwrap_err();
    let expect = "\
Image: images.txt:2:1: `A` is not a valid image name: repository name `A` must be lowercase \
[help: write it in lowercase: `a`]
Package: images.txt:3:1: image `b` lacks a digest \
[help: name it as NAME@sha256:…, so that the package always gets the same image]";
    assert_eq!(format!("{error:?}"), expect);
}

/// Untrusted texts: every byte string is either a package or an error.
#[test]
fn hostile_texts_are_errors() {
    let long = "x".repeat(100_000);
    for text in [
        "\0".to_owned(),
        "{".repeat(1000),
        format!("{long}: 1"),
        format!("image: a\n{long}: 1"),
        format!("image: a\narches: [{long}]"),
        format!("image: a\nnetwork: {long}"),
        "image: a\nconfig: &a {runtime: *a}".to_owned(),
        "image: a\n<<: [*a]".to_owned(),
        "a: &a [1]\nimage: *a".to_owned(),
    ] {
        let error = read(&text).unwrap_err();
        assert!(format!("{error:?}").len() < 110_000, "{error:?}");
    }
}
