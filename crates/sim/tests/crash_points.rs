//! The power is cut at every durable step of every verb, and of what follows from it in the background.
//!
//! Each verb is run once to count its steps. Then, for each step and several choices of what survives, the same machine is brought to
//! the same point, the power is cut there, and after the next start everything must be as the model allows: what was acknowledged is
//! there, what was not is there as a whole or not at all, and collections leave exactly what snapshots refer to.

use sim::clients::Story;
use sim::machine::End;
use sim::model::Wrong;
use sim::scene::Scene;
use sim::thorough::is_thorough;
use std::cell::Cell;
use std::time::Duration;

/// Choices of what survives, for each step; each step has its own.
fn survivors() -> u64 {
    if is_thorough() { 8 } else { 1 }
}

/// Called by a verb's script where its steps begin to count.
struct Mark {
    /// The step of the mark at which the power is cut; `None` to count.
    cut: Option<u64>,
    at: Cell<u64>,
}

impl Mark {
    fn here(&self, story: &Story<'_>) {
        let before = story.life.io.steps();
        self.at.set(before);
        if let Some(cut) = self.cut {
            story.life.io.cut_power_at(before + cut);
        }
    }
}

/// Runs `before` in lives of its own, then `verb`, with the power cut at each of its steps. Answers how many there are.
#[track_caller]
fn check(
    before: impl Fn(&mut Scene) -> Result<(), Wrong>,
    verb: impl AsyncFn(&Story<'_>, &Mark) -> Result<(), Wrong>,
    steps_min: u64,
) {
    let mut steps_seen = 0;
    for seed in 0..survivors() {
        let run = |cut: Option<u64>| {
            let mut scene = Scene::new(1_000 * seed + cut.unwrap_or_default());
            before(&mut scene)?;
            let mark = Mark {
                cut,
                at: Cell::new(0),
            };
            let steps = Cell::new(0);
            let end = scene.live(async |story| {
                verb(story, &mark).await?;
                story.quiet().await;
                steps.set(story.life.io.steps() - mark.at.get());
                Ok(())
            })?;
            if cut.is_some() && end != End::Broke {
                return Err("the power was never cut".to_owned());
            }
            scene.check()?;
            Ok(steps.get())
        };
        let steps = run(None).unwrap_or_else(|wrong: Wrong| panic!("without a cut: {wrong}"));
        assert!(steps >= steps_min, "only {steps} steps");
        for cut in 1..=steps {
            if let Err(wrong) = run(Some(cut)) {
                panic!("cut at step {cut} of {steps}, survivors {seed}: {wrong}");
            }
        }
        steps_seen += steps;
    }
    eprintln!("{steps_seen} cuts");
}

fn nothing(_: &mut Scene) -> Result<(), Wrong> {
    Ok(())
}

/// A completed snapshot with three blocks of which two are equal, in a life that was killed.
fn a_snapshot(scene: &mut Scene) -> Result<(), Wrong> {
    scene.live_through(async |story| {
        story.completed(None, &[(0, 1), (1, 2), (130, 1)]).await?;
        story.quiet().await;
        Ok(())
    })
}

#[test]
fn start() {
    check(
        nothing,
        async |story, mark| {
            mark.here(story);
            story.begin(None).await.map(drop)
        },
        1,
    );
}

#[test]
fn start_child() {
    check(
        a_snapshot,
        async |story, mark| {
            mark.here(story);
            story.begin(Some(1)).await.map(drop)
        },
        1,
    );
}

#[test]
fn put_new_content() {
    check(
        nothing,
        async |story, mark| {
            let number = story.begin(None).await?;
            mark.here(story);
            story.put_one(number, 7, 3).await.map(drop)
        },
        7,
    );
}

#[test]
fn put_known_content_zeros_and_over_another() {
    check(
        a_snapshot,
        async |story, mark| {
            let number = story.begin(None).await?;
            mark.here(story);
            story
                .put_all(number, &[(0, 1), (1, 0), (0, 2), (1, 1)])
                .await
        },
        4,
    );
}

#[test]
fn puts_that_fill_segments() {
    check(
        nothing,
        async |story, mark| {
            let number = story.begin(None).await?;
            story.put_all(number, &[(0, 1), (1, 2)]).await?;
            mark.here(story);
            story.put_all(number, &[(2, 3), (3, 4), (4, 5)]).await
        },
        15,
    );
}

#[test]
fn complete() {
    check(
        nothing,
        async |story, mark| {
            let number = story.begin(None).await?;
            story
                .put_all(number, &[(0, 1), (200, 0), (2_000, 2)])
                .await?;
            mark.here(story);
            story.finish(number).await
        },
        10,
    );
}

#[test]
fn complete_child() {
    check(
        a_snapshot,
        async |story, mark| {
            let number = story.begin(Some(1)).await?;
            story.put_all(number, &[(1, 3), (131, 1)]).await?;
            mark.here(story);
            story.finish(number).await
        },
        8,
    );
}

#[test]
fn complete_with_a_wrong_count() {
    check(
        nothing,
        async |story, mark| {
            let number = story.begin(None).await?;
            story.put_all(number, &[(0, 1), (1, 2)]).await?;
            let promise = sim::model::Promise {
                count: 3,
                checksum: None,
            };
            mark.here(story);
            story
                .complete_call(0, &story.one(number), promise)
                .await
                .map(drop)
        },
        3,
    );
}

#[test]
fn delete_completed() {
    check(
        |scene| {
            a_snapshot(scene)?;
            scene.live_through(async |story| story.completed(Some(1), &[(0, 4)]).await.map(drop))
        },
        async |story, mark| {
            mark.here(story);
            story.remove(1).await.map(drop)
        },
        3,
    );
}

#[test]
fn delete_pending() {
    check(
        nothing,
        async |story, mark| {
            let number = story.begin(None).await?;
            story.put_all(number, &[(0, 1), (1, 2)]).await?;
            mark.here(story);
            story.remove(number).await.map(drop)
        },
        2,
    );
}

#[test]
fn delete_while_it_is_finished() {
    check(
        a_snapshot,
        async |story, mark| {
            let number = story.begin(Some(1)).await?;
            story.put_all(number, &[(0, 5), (140, 6)]).await?;
            mark.here(story);
            story.seal(number).await?;
            story.remove(number).await.map(drop)
        },
        4,
    );
}

#[test]
fn tags() {
    check(
        a_snapshot,
        async |story, mark| {
            mark.here(story);
            story
                .tag_call(0, &story.one(1), "name", Some("a".to_owned()))
                .await?;
            story
                .tag_call(0, &story.one(1), "name", None)
                .await
                .map(drop)
        },
        2,
    );
}

#[test]
fn expiry() {
    check(
        nothing,
        async |story, mark| {
            let number = story.begin_for(0, None, 1).await?;
            story.put_one(number, 0, 1).await?;
            mark.here(story);
            tokio::time::sleep(Duration::from_secs(150)).await;
            Ok(())
        },
        6,
    );
}

/// Two snapshots that share a block, one of them deleted, in lives that were killed: their segments are sealed.
fn garbage(scene: &mut Scene) -> Result<(), Wrong> {
    scene.live_through(async |story| {
        story
            .completed(None, &[(0, 1), (1, 2), (2, 3), (300, 4)])
            .await?;
        story.completed(None, &[(0, 1), (700, 5)]).await?;
        story.remove(1).await?;
        story.quiet().await;
        Ok(())
    })
}

/// The same after some collections.
fn collected(times: u32) -> impl Fn(&mut Scene) -> Result<(), Wrong> {
    move |scene| {
        garbage(scene)?;
        scene.live_through(async |story| {
            story.quiet().await;
            story.collect_times(times).await
        })
    }
}

#[test]
fn collect_condemns_and_closes() {
    check(
        garbage,
        async |story, mark| {
            story.quiet().await;
            mark.here(story);
            story.collect_times(1).await
        },
        4,
    );
}

#[test]
fn collect_sweeps_and_settles() {
    check(
        collected(1),
        async |story, mark| {
            story.quiet().await;
            mark.here(story);
            story.collect_times(1).await
        },
        6,
    );
}

#[test]
fn collect_removes_containers() {
    check(
        |scene| {
            collected(1)(scene)?;
            scene.live_through(async |story| story.remove(2).await.map(drop))
        },
        async |story, mark| {
            story.quiet().await;
            mark.here(story);
            story.collect_times(4).await
        },
        15,
    );
}

/// Many snapshots whose pages share a segment, all but one deleted and swept, the segment closed.
fn pages_mostly_garbage(scene: &mut Scene) -> Result<(), Wrong> {
    scene.live_through(async |story| {
        for content in 1..6 {
            story
                .completed(None, &[(content, content), (400, content)])
                .await?;
        }
        for number in [1, 2, 4, 5] {
            story.remove(number).await?;
        }
        story.quiet().await;
        Ok(())
    })?;
    scene.live_through(async |story| {
        story.quiet().await;
        story.collect_times(1).await
    })
}

#[test]
fn collect_moves_pages() {
    check(
        pages_mostly_garbage,
        async |story, mark| {
            story.quiet().await;
            mark.here(story);
            story.collect_times(2).await
        },
        12,
    );
}

#[test]
fn put_revives_what_is_condemned() {
    check(
        collected(1),
        async |story, mark| {
            story.quiet().await;
            let number = story.begin(None).await?;
            mark.here(story);
            story.put_all(number, &[(0, 2), (1, 3)]).await?;
            story.collect_times(1).await
        },
        8,
    );
}

/// A life that a power cut ended, with frames that have no name and a segment that was just made.
fn cut_in_the_middle(scene: &mut Scene) -> Result<(), Wrong> {
    a_snapshot(scene)?;
    let end = scene.live(async |story| {
        let number = story.begin(None).await?;
        story.put_all(number, &[(0, 6), (1, 7), (2, 8)]).await?;
        story.life.io.cut_power_at(story.life.io.steps() + 4);
        story.put_all(number, &[(3, 9), (4, 10), (5, 11)]).await?;
        story.quiet().await;
        Ok(())
    })?;
    assert_eq!(end, End::Broke);
    Ok(())
}

#[test]
fn the_start_itself() {
    for seed in 0..3 * survivors() {
        let mut cut = 0;
        loop {
            cut += 1;
            let mut scene = Scene::new(1_000 * seed + cut);
            cut_in_the_middle(&mut scene).unwrap();
            let run = || -> Result<bool, Wrong> {
                scene.machine.cut_next_life_at(Some(cut));
                let end = scene.live(async |story| {
                    story.quiet().await;
                    Ok(())
                })?;
                scene.machine.cut_next_life_at(None);
                scene.check()?;
                Ok(matches!(end, End::Told(())))
            };
            let mut run = run;
            match run() {
                Ok(true) => break,
                Ok(false) => {}
                Err(wrong) => panic!("cut at step {cut} of the start, survivors {seed}: {wrong}"),
            }
        }
        assert!(cut > 4, "only {cut} steps");
    }
}
