//! Shared caches in a registry that accepts connections and never says a word, and base images that came from one.

use crate::offline::publish;
use crate::support::registry::Registry;
use crate::support::{Said, World, peer};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const DOCKERFILE: &str = "FROM base\nCOPY a /a\nCOPY a /b\n";

fn build(world: &World, store: &str, args: &[&str]) -> Said {
    let tar = world.path("base.tar");
    world.run(["image", "import", "--root", store, "base", tar.to_str().unwrap()]).ok();
    let context = world.context();
    let fixed = ["build", "--progress", "plain", "--source-date-epoch=0", "--root", store];
    world.run(fixed.iter().chain(args).copied().chain([context.to_str().unwrap()]))
}

/// The address of one who listens and holds every connection, and how many there were.
fn silent() -> (String, Arc<AtomicUsize>) {
    silent_at("127.0.0.1:0")
}

fn silent_at(address: &str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let count = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&count);
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            seen.fetch_add(1, Ordering::SeqCst);
            held.push(stream);
        }
    });
    (address, count)
}

/// All caches together cost one wait, and the image is what it is without them.
#[test]
fn a_registry_that_never_answers_costs_a_miss_and_a_warning() {
    let world = World::new().with_base();
    world.file("a", "a").file("Dockerfile", DOCKERFILE);
    let digest = build(&world, "one", &[]).ok();
    let (host, connections) = silent();
    let to = format!("type=registry,ref={host}/app:to,ignore-error=true");
    let from = [format!("{host}/app:from"), format!("type=registry,ref={host}/other:from")];
    let args = ["--cache-to", &to, "--cache-from", &from[0], "--cache-from", &from[1]];
    let said = build(&world, "two", &args);
    let warnings: Vec<&str> =
        said.stderr.lines().filter(|line| line.starts_with("warning")).collect();
    let why =
        format!("registry `{host}` cannot be reached: GET http://{host}/v2/: no answer in time");
    assert_eq!(
        warnings,
        [
            format!(
                "warning: cannot write the cache `{host}/app:to`: cannot push `{host}/app:to`: {why}"
            ),
            format!("warning: cannot use the cache `{host}/app:from`: {why}"),
        ]
    );
    assert!(!said.stderr.contains("CACHED"), "{said:?}");
    assert_eq!(said.ok(), digest);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

/// Two base images cost one wait, and are those that are stored.
#[test]
fn whether_there_is_a_newer_base_is_not_waited_for_long() {
    if !["skopeo", "docker-registry"].into_iter().all(peer) {
        return;
    }
    let world = World::new().with_base();
    let registry = Registry::start(&world);
    let [one, two] = ["one:1", "two:1"].map(|name| publish(&world, &registry, name));
    let dockerfile =
        format!("FROM {one} AS one\nRUN echo 1 > /a\nFROM {two}\nCOPY --from=one /a /\n");
    let digest = world.build(&dockerfile, &[]).ok();
    let host = registry.address.clone();
    drop(registry);
    let (_, connections) = silent_at(&host);
    let said = world.build(&dockerfile, &[]);
    let warning = |name: &str| {
        format!(
            "warning: cannot ask for a newer `{name}` (cannot look up `{name}`: registry `{host}` \
             cannot be reached: GET http://{host}/v2/: no answer in time); the stored one is used"
        )
    };
    let warnings: Vec<&str> =
        said.stderr.lines().filter(|line| line.starts_with("warning")).collect();
    assert_eq!(warnings, [warning(&one), warning(&two)]);
    assert_eq!((said.cached(), said.done()), (2, 0), "{said:?}");
    assert_eq!(said.ok(), digest);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
