//! The examples of `docs/dockertools.md`, run as they stand there.
//!
//! Each section (`## …`) has a world of its own, with the fixtures that the beginning of the document names. A block of
//! `yaml` or `nix` is a file, whose name is in its first line; a block of `sh` is run, after all blocks before it; a block
//! of `text` is what the commands before it print, with `…` for anything within a line. A section with a block of `nix` has
//! a store of Nix, one that says `$REGISTRY` a registry.

use crate::support::nix::{NIXPKGS, Nix, Sandbox, path_with_program};
use crate::support::registry::Registry;
use crate::support::{Said, Who, World, bases::project, peer};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const HELLO: &str = "machine/nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-hello-2.12";
const GREETING: &str = "machine/nix/store/7x9vkbxb2qy8pi3vy1rbzbdsdbnxvzar-greeting-1.0";

/// `$1`, as root, with the machine's own directories read-only: a mistake in an example must not harm it.
const GUARDED: &str = r#"
mount --make-rprivate /
for dir in /etc /home /root /usr /var; do
    [ ! -d "$dir" ] || { mount --bind "$dir" "$dir" && mount -o remount,bind,ro "$dir"; }
done
exec /bin/sh -euc "$1"
"#;

/// A block of the document.
#[derive(Debug)]
struct Block {
    /// Number of its first line.
    line: usize,
    language: String,
    text: String,
}

/// Sections by their headings.
fn sections(document: &str) -> Vec<(String, Vec<Block>)> {
    let mut sections: Vec<(String, Vec<Block>)> = vec![(String::new(), Vec::new())];
    let mut open: Option<Block> = None;
    for (at, line) in document.lines().enumerate() {
        let blocks = &mut sections.last_mut().unwrap().1;
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block {
                    line: at + 2,
                    language: language.to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => block.text.push_str(&format!("{line}\n")),
            (None, None) => {
                if let Some(title) = line.strip_prefix("## ") {
                    sections.push((title.to_owned(), Vec::new()));
                }
            }
        }
    }
    sections.retain(|(_, blocks)| !blocks.is_empty());
    sections
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// What the document promises to be there.
fn fixtures(world: &World) {
    write(&world.path("hello/bin/hello"), "#!/bin/sh\necho hi\n", 0o755);
    write(&world.path("hello/share/doc/hello"), "says hi\n", 0o644);
    let text = format!("#!/bin/sh\nexec cat {}/greeting\n", &GREETING["machine".len()..]);
    write(&world.path(&format!("{HELLO}/bin/hello")), &text, 0o555);
    write(&world.path(&format!("{GREETING}/greeting")), "hi\n", 0o444);
    for dir in [format!("{HELLO}/bin"), HELLO.to_owned(), GREETING.to_owned()] {
        fs::set_permissions(world.path(&dir), PermissionsExt::from_mode(0o555)).unwrap();
    }
    world.give();
    world.run(["image", "copy", "base", "docker-archive:base.tar:base:1"]).ok();
}

/// Whether a line is what the document says it is.
fn is_like(line: &str, pattern: &str) -> bool {
    match pattern.split_once('…') {
        None => line == pattern,
        Some((start, end)) => {
            line.len() >= start.len() + end.len() && line.starts_with(start) && line.ends_with(end)
        }
    }
}

fn is_as_promised(found: &str, wanted: &str) -> bool {
    let (lines, patterns): (Vec<_>, Vec<_>) = (found.lines().collect(), wanted.lines().collect());
    lines.len() == patterns.len()
        && lines.iter().zip(&patterns).all(|(line, pattern)| is_like(line, pattern))
}

/// Runs the blocks of a section in their order; what is wrong about it.
fn run(blocks: &[Block], world: &World, shell: &dyn Fn(&str) -> Said) -> Result<(), String> {
    let mut said: Option<String> = None;
    for block in blocks {
        let wrong = |what: String| Err(format!("docs/dockertools.md:{}: {what}", block.line));
        match block.language.as_str() {
            "yaml" | "nix" => {
                let name = block.text.lines().next().and_then(|line| line.strip_prefix("# "));
                let Some(name) = name else { return wrong("a file without a name".to_owned()) };
                fs::write(world.path(name), &block.text).unwrap();
                world.give();
            }
            "sh" => {
                let done = shell(&block.text);
                if done.code != 0 {
                    return wrong(format!("exit code {}\n{}", done.code, done.stderr));
                }
                said = Some(done.stdout);
            }
            "text" => match said.take() {
                None => return wrong("nothing printed this".to_owned()),
                Some(said) if is_as_promised(&said, &block.text) => {}
                Some(said) => {
                    return wrong(format!("promises\n{}but there is\n{said}", block.text));
                }
            },
            other => return wrong(format!("a block of `{other}`")),
        }
    }
    Ok(())
}

/// A section whose commands need nothing but the program.
fn plain(blocks: &[Block], world: World) -> Result<(), String> {
    let world = world.with_base();
    fixtures(&world);
    let needs_registry = blocks.iter().any(|block| block.text.contains("$REGISTRY"));
    let registry = needs_registry.then(|| {
        let registry = Registry::start(&world);
        let name = format!("docker://{}/hello:1", registry.address);
        world.run(["image", "copy", "base", &name]).ok();
        registry
    });
    let shell = |script: &str| {
        let mut command = if world.who() == Who::Root {
            let mut command = world.command("unshare");
            command.args(["-m", "/bin/sh", "-euc", GUARDED, "sh", script]);
            command
        } else {
            let mut command = world.command("/bin/sh");
            command.args(["-euc", script]);
            command
        };
        command.env("PATH", path_with_program());
        if let Some(registry) = &registry {
            command.env("REGISTRY", &registry.address);
        }
        Said::of(command.output().unwrap())
    };
    run(blocks, &world, &shell)
}

fn with_nix(blocks: &[Block]) -> Result<(), String> {
    let Some(nix) = Nix::new(Sandbox::On) else { return Ok(()) };
    nix.file("nixpkgs/default.nix", NIXPKGS);
    run(blocks, &nix.world, &|script| nix.run(script))
}

fn document() -> String {
    fs::read_to_string(project("docs/dockertools.md")).unwrap()
}

/// Every example that needs no Nix does what the document says, for root and for an ordinary user.
#[test]
fn the_examples_of_the_document_do_what_it_says() {
    if !peer("jq") || !peer("docker-registry") {
        return;
    }
    let mut wrong = Vec::new();
    for (title, blocks) in sections(&document()) {
        if blocks.iter().any(|block| block.language == "nix") {
            continue;
        }
        for world in World::each() {
            let who = world.who();
            wrong.extend(
                plain(&blocks, world).map_err(|what| format!("{title}, {who:?}: {what}")).err(),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_examples_of_the_document_work_inside_a_derivation() {
    if !peer("jq") {
        return;
    }
    let with_nix = sections(&document())
        .iter()
        .filter(|(_, blocks)| blocks.iter().any(|block| block.language == "nix"))
        .map(|(title, blocks)| (title.clone(), with_nix(blocks)))
        .collect::<Vec<_>>();
    assert_eq!(with_nix, [("Inside a derivation".to_owned(), Ok(()))]);
}

/// Everything that Nix's functions and their arguments are called is spoken of.
#[test]
fn the_document_speaks_of_every_function() {
    let document = document();
    let names = "pullImage nix-prefetch-docker buildImage runAsRoot extraCommands fakeRootCommands \
        enableFakechroot mkPureLayer mkRootLayer shadowSetup mergeDrvs runWithOverlay exportImage \
        nixRegistration buildImageWithNixDb includeNixDB buildLayeredImage streamLayeredImage maxLayers \
        layeringPipeline mergeImages streamNixShellImage buildNixShellImage fakeNss usrBinEnv binSh \
        caCertificates writeReferencesToFile closureInfo tarsum checksum VERSION diskSize buildVMMemorySize \
        fromImage fromImageName fromImageTag contents copyToRoot keepContentsDirlinks created mtime \
        includeStorePaths shellScript compressor architecture preMount postUmount uname gname";
    let missing: Vec<&str> =
        names.split_whitespace().filter(|name| !document.contains(name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}
