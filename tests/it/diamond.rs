//! A diamond of eight stages gives one digest, however many of its stages run at the same time.

use crate::support::World;
use std::collections::BTreeSet;

/// One stage, six on it that do not need each other, and one that joins them. `bench/diamond` runs it 200 times.
fn diamond() -> String {
    let mut text = "FROM base AS top\nRUN mkdir /made && seq 5000 > /made/seed\n".to_owned();
    let sides = ["a", "b", "c", "d", "e", "f"];
    for side in sides {
        text += &format!(
            "FROM top AS s_{side}\n\
             RUN sed s/1/{side}/g /made/seed > /made/{side} && ln /made/{side} /made/again && rm /made/seed\n\
             RUN sha256sum /made/{side} > /made/sum\n"
        );
    }
    text += "FROM base\n";
    for side in sides {
        text += &format!("COPY --from=s_{side} /made /out/{side}\n");
    }
    text + "RUN cat /out/*/sum > /all\n"
}

#[test]
fn twelve_builds_of_a_diamond_give_one_digest() {
    for world in World::each() {
        let world = world.with_base();
        let dockerfile = diamond();
        let digests: BTreeSet<String> = ["1", "2", "3", "4", "8", "16"]
            .iter()
            .cycle()
            .take(12)
            .map(|jobs| {
                let args = ["--no-cache", "--source-date-epoch", "1700000000", "--jobs", jobs];
                world.build(&dockerfile, &[&args[..], &["-t", "app"]].concat()).ok()
            })
            .collect();
        assert_eq!(digests.len(), 1, "{:?}: {digests:?}", world.who());
        world.validate("app");
    }
}
