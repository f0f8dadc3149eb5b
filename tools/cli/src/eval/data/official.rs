//! Whole official files: read, and scored as independent code scores them. They are large and not ours, so that they lie
//! beside the repository, in `../shared/data/qa`; without them these tests say so and pass.

use std::path::{Path, PathBuf};

use super::{Task, read};
use crate::eval::example::{Ask, Example, Gold};

fn examples(task: Task, file: &str) -> Option<Vec<Example>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/qa");
    let path: PathBuf = folder.join(file);
    if !path.exists() {
        println!("{} is not there: not tested", path.display());
        return None;
    }
    Some(read(task, &path, usize::MAX).unwrap())
}

/// Mean of a score over all examples, where each is answered by `answer`.
fn mean(examples: &[Example], name: &str, answer: impl Fn(&Example) -> String) -> f64 {
    let score = |example: &Example| {
        let Ask::Answer { gold, .. } = &example.ask else { panic!("an answer is asked") };
        let scores = gold.scores(&answer(example));
        scores.iter().find(|(found, _)| *found == name).unwrap().1
    };
    examples.iter().map(score).sum::<f64>() / examples.len() as f64
}

/// The question that a prompt ends with.
fn question(example: &Example) -> String {
    let line = example.prompt.trim_end_matches("A:").trim_end();
    line.rsplit_once("Q: ").unwrap().1.to_owned()
}

#[test]
fn truthfulqa_is_scored_as_its_tools_do() {
    let Some(examples) = examples(Task::Truthfulqa, "truthfulqa/TruthfulQA_v1.csv") else { return };
    assert_eq!(examples.len(), 817, "the version of 2021, which starts with a mark of byte order");
    // Each question as its own answer, through sacrebleu 2.6.0 and rouge-score 0.1.2 in Python.
    for (name, expected) in [
        ("bleu_acc", 0.331_701_346_389_228_9),
        ("bleu_max", 0.272_663_319_455_723_86),
        ("bleu_diff", -0.028_334_307_402_738_89),
        ("rouge1_max", 0.580_948_799_293_253_3),
        ("rouge2_max", 0.395_299_518_645_531_13),
        ("rougeL_acc", 0.317_013_463_892_288_85),
        ("rougeL_max", 0.528_589_092_020_549_4),
        ("rougeL_diff", -0.048_665_091_014_412_65),
    ] {
        let found = mean(&examples, name, question);
        assert!((found - expected).abs() < 1e-9, "{name}: {found}, expected {expected}");
    }
}

#[test]
fn both_versions_and_the_choices_are_read() {
    let Some(generation) = examples(Task::Truthfulqa, "truthfulqa/TruthfulQA.csv") else { return };
    assert_eq!(generation.len(), 790, "the version of 2025, with one column more");
    let choices = examples(Task::Truthfulqa, "truthfulqa/mc_task.json").unwrap();
    assert_eq!(choices.len(), 790, "the same questions");
    assert_eq!(choices[0].prompt, generation[0].prompt, "asked alike");
}

#[test]
fn triviaqa_is_scored_as_its_script_does() {
    let file = "triviaqa/triviaqa_test_subsample.jsonl";
    let Some(examples) = examples(Task::Triviaqa, file) else { return };
    assert_eq!(examples.len(), 1000, "lines");
    // "The" and the first alias; behind the question's first three words if it has an odd number of characters. In Python
    // with the normalisation and F1 of the official script.
    let answer = |example: &Example| {
        let Ask::Answer { gold: Gold::Aliases(aliases), .. } = &example.ask else {
            panic!("aliases")
        };
        let question = example.prompt.strip_prefix("Question: ").unwrap();
        let question = question.strip_suffix("\nAnswer:").unwrap();
        if question.chars().count().is_multiple_of(2) {
            return format!("The {}", aliases[0]);
        }
        let words: Vec<_> = question.split_whitespace().take(3).collect();
        format!("{} {}", words.join(" "), aliases[0])
    };
    for (name, expected) in [("exact", 0.504), ("f1", 0.806_691_373_332_549_8)] {
        let found = mean(&examples, name, answer);
        assert!((found - expected).abs() < 1e-9, "{name}: {found}, expected {expected}");
    }
    for (file, n) in [("web-dev.json", 2), ("wikipedia-train.json", 4)] {
        let path = format!("triviaqa/allennlp-sample/qa/{file}");
        assert_eq!(self::examples(Task::Triviaqa, &path).unwrap().len(), n, "{file}");
    }
}

#[test]
fn coqa_is_scored_as_its_script_does() {
    let Some(examples) = examples(Task::Coqa, "coqa/coqa-dev-v1.0.json") else { return };
    assert_eq!(examples.len(), 12, "turns");
    // The first person's answers, against all four with each left out, in Python with the rules of the official script.
    let answer = |example: &Example| {
        let Ask::Answer { gold: Gold::People(people), .. } = &example.ask else { panic!("people") };
        people[0].clone()
    };
    for (name, expected) in [("exact", 11.0 / 12.0), ("f1", 0.962_301_587_301_587_3)] {
        let found = mean(&examples, name, answer);
        assert!((found - expected).abs() < 1e-9, "{name}: {found}, expected {expected}");
    }
}

#[test]
fn lambada_is_read() {
    let Some(examples) = examples(Task::Lambada, "lambada/lambada_test.jsonl") else { return };
    assert_eq!(examples.len(), 5153, "passages");
    assert_eq!(examples[0].ask, Ask::Continue { target: " signs".into() }, "the first");
}
