//! Power meters that break, and budgets that cannot be: what the service says, and that it goes on unless it is told to stop.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::device::{Board, Service, demo, image};

/// A board with the sensor of an Orin Nano, as the kernel shows it.
fn with_sensor(more: &str) -> Board {
    let board = Board::new(&format!(
        "[budget]\nenergy_per_token = \"1 J\"\n[power]\nmeter = \"ina3221\"\nrail = \"VDD_IN\"\n{more}"
    ));
    let sensor = sensor(&board);
    std::fs::create_dir_all(&sensor).unwrap();
    for (file, text) in [("name", "ina3221"), ("in1_label", "VDD_IN"), ("in1_input", "5000")] {
        std::fs::write(sensor.join(file), format!("{text}\n")).unwrap();
    }
    show(&board, "960\n");
    board
}

fn sensor(board: &Board) -> PathBuf {
    board.root().join("sys/class/hwmon/hwmon1")
}

/// What the sensor answers from now on: milliamperes, if it is a number.
fn show(board: &Board, text: &str) {
    std::fs::write(sensor(board).join("curr1_input"), text).unwrap();
}

fn tokens() -> Value {
    json!({ "prompt": "Once", "max_tokens": 40, "temperature": 0, "dynamax": { "ignore_eos": true } })
}

/// Asks until the meter counts as whole, or as broken.
fn ask_until(service: &Service<'_>, is_whole: bool) {
    service.wait_until("the state of the meter", || {
        let reply = service.post("/v1/completions", &tokens());
        assert_eq!(reply.status, 200, "decoding goes on: {}", reply.text());
        (service.metric("meter_ok") > 0.5) == is_whole
    });
}

#[test]
fn a_meter_that_answers_nonsense_is_told_of_and_decoding_goes_on() {
    let board = with_sensor("");
    let mut service = board.start();
    let answer = service.ask("/v1/completions", &tokens());
    assert_eq!(answer["dynamax"]["energy_source"], "ina3221", "{answer}");
    assert!(answer["dynamax"]["energy_mj_per_token"].as_f64() > Some(0.0), "measured: {answer}");
    for (nonsense, words) in [("none\n", "the power meter"), ("9000000\n", "what cannot be")] {
        show(&board, nonsense);
        ask_until(&service, false);
        service.wait_for_words(words);
        show(&board, "961\n");
        ask_until(&service, true);
        service.wait_for_words("the power meter is back");
    }
    assert!(service.metric("meter_faults_total") > 1.5, "twice");
}

#[test]
fn a_meter_that_freezes_is_told_of_and_decoding_goes_on() {
    let board = with_sensor("");
    let mut service = board.start();
    // Ten seconds of the same answer.
    std::thread::sleep(Duration::from_millis(10_500));
    ask_until(&service, false);
    service.wait_for_words("repeats itself");
    show(&board, "970\n");
    ask_until(&service, true);
}

#[test]
fn a_meter_that_breaks_stops_decoding_only_where_it_is_told_to() {
    let board = with_sensor("on_meter_fault = \"stop\"\n");
    let service = board.start();
    service.ask("/v1/completions", &tokens());
    show(&board, "none\n");
    let mut refused = None;
    service.wait_until("a refusal", || {
        let reply = service.post("/v1/completions", &tokens());
        let is_refused = reply.status != 200;
        refused = is_refused.then_some(reply);
        is_refused
    });
    let refused = refused.unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some(), "{}", refused.head);
    let error = &refused.json()["error"];
    assert_eq!(
        (&error["type"], &error["code"]),
        (&"server_error".into(), &"power_meter_broken".into()),
        "{error}"
    );
    assert!(error["message"].as_str().unwrap().contains("on_meter_fault"), "{error}");
    assert_eq!(service.get("/health").status, 200, "the service itself is well");
    show(&board, "970\n");
    service
        .wait_until("answers again", || service.post("/v1/completions", &tokens()).status == 200);
}

#[test]
fn a_sensor_or_a_rail_that_is_not_there_is_refused_at_the_start() {
    let board = with_sensor("");
    board.configure("[power]\nmeter = \"hwmon\"\nrail = \"VDD_OUT\"\n");
    let output = board.run(&[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(2) && said.contains("VDD_IN"),
        "the rails there are: {said}"
    );
    std::fs::remove_dir_all(sensor(&board)).unwrap();
    board.configure("[power]\nmeter = \"hwmon\"\n");
    let output = board.run(&[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("\"model\""), "what to do: {said}");
}

#[test]
fn a_check_opens_the_meter_as_a_start_would() {
    let board = with_sensor("");
    let report = |board: &Board| {
        let output = board.run(&["--check", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code(), report, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, whole, said) = report(&board);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!((&whole["energy_source"], &whole["meter_ok"]), (&"ina3221".into(), &true.into()));
    show(&board, "none\n");
    let (status, _, said) = report(&board);
    assert!(status == Some(2) && said.contains("what cannot be"), "nonsense: {said}");
    std::fs::remove_dir_all(sensor(&board)).unwrap();
    let (status, _, said) = report(&board);
    assert!(status == Some(2) && said.contains("\"model\""), "what to do: {said}");
}

#[test]
fn a_budget_that_cannot_be_kept_is_a_no_and_one_that_is_none_bad_input() {
    let check = |budget: &str| {
        let board = Board::new(&format!("[budget]\n{budget}\n[power]\nmeter = \"model\"\n"));
        let output = board.run(&["--check", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code(), report, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, report, _) = check("energy_per_token = \"1 J\"");
    assert_eq!((status, &report["unkept"]), (Some(0), &Value::Null), "{report}");
    let (status, report, said) = check("energy_per_token = \"1 uJ\"");
    assert_eq!((status, &report["unkept"]), (Some(1), &"energy_per_token".into()), "{report}");
    assert!(said.contains("cannot be kept"), "{said}");
    assert!(report["outlook"].as_str().unwrap().contains("least budget is"), "{report}");
    let (status, report, _) = check("latency_per_token = \"1 us\"");
    assert_eq!((status, &report["unkept"]), (Some(1), &"latency_per_token".into()), "{report}");
    for (budget, words) in [
        ("0 mJ", "nothing can keep"),
        ("-5 mJ", "is negative"),
        ("NaN mJ", "number"),
        ("5", "unit"),
    ] {
        let (status, _, said) = check(&format!("energy_per_token = \"{budget}\""));
        assert!(
            status == Some(2) && said.contains(words) && said.contains("energy_per_token"),
            "{budget}: {said}"
        );
    }
}

/// A profile of the Mamba-2 demo, each of whose segments was measured to take a second.
fn slow_profile() -> String {
    let hash = image(&demo("mamba2.dmx")).hash;
    let row = "[1e6, 1e6, 1e6, 1e6, 1e6, 1e6, 1e6, 1e6]";
    let segment = format!(
        "[[segment]]\nfirst_row_us = {row}\nfirst_row_uj = {row}\nmore_rows_us = [1, 3, 7, 15]\nmore_rows_uj = [1, 3, 7, 15]\nprobe = [1.0, 1.0]\n\
         us_95 = [1e6, 1e6]\nuj_95 = [1e6, 1e6]\n"
    );
    let head = format!(
        "board = \"generic\"\nsource = \"model\"\nbundle = \"{hash}\"\nhead = [1.0, 1.0]\n"
    );
    head + &segment.repeat(5)
}

#[test]
fn a_profile_beside_the_slot_is_what_budgets_reckon_with() {
    let board =
        Board::new("[budget]\nlatency_per_token = \"100 ms\"\n[power]\nmeter = \"model\"\n");
    let check = || {
        let output = board.run(&["--check", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (report["profiled"].clone(), report["unkept"].clone())
    };
    assert_eq!(check(), (false.into(), Value::Null), "by the board's rates, 100 ms are plenty");
    assert!(!board.start().lines.iter().any(|line| line.contains("profiled")), "nor at the start");
    let place = board.slots_folder().join("a.profile.toml");
    std::fs::write(&place, slow_profile()).unwrap();
    assert_eq!(check(), (true.into(), "latency_per_token".into()), "as measured, they are not");
    assert!(board.start().lines.iter().any(|line| line.contains(", profiled")), "says so");
    std::fs::write(&place, slow_profile().replace("\"generic\"", "\"raspberry-pi-5-8gb\""))
        .unwrap();
    assert_eq!(check().0, false, "of another board");
    std::fs::write(&place, "board = 3").unwrap();
    assert_eq!(board.run(&["--check"]).status.code(), Some(2), "no profile at all");
    let service = board.start();
    assert!(
        service.lines.iter().any(|line| line.contains("a.profile.toml")),
        "starts all the same, and says what is wrong: {:?}",
        service.lines
    );
}

/// Writes a file of the board.
fn put(board: &Board, path: &str, text: &str) {
    let path = board.root().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn another_power_mode_and_a_low_battery_are_noticed_while_it_runs() {
    let board = Board::new("");
    board.configure_device(
        "board = \"jetson-orin-nano-8gb\"",
        "[budget]\nenergy_per_token = \"1 J\"\n[power]\nmeter = \"model\"\n\
         below_battery = { level = \"20 %\", energy_per_token = \"1 uJ\" }\n",
    );
    let battery = "sys/class/power_supply/BAT0/";
    put(&board, "var/lib/nvpmodel/status", "pmode:0000\n");
    put(&board, &format!("{battery}type"), "Battery\n");
    put(&board, &format!("{battery}capacity"), "80\n");
    let mut service = board.start();
    let rich = service.ask("/v1/completions", &tokens());
    assert_eq!(rich["dynamax"]["depth_mean"], 1.0, "a joule is enough: {rich}");
    assert!(service.metric("power_mode").abs() < 0.5, "the first mode");
    put(&board, "var/lib/nvpmodel/status", "pmode:0001\n");
    put(&board, &format!("{battery}capacity"), "10\n");
    service.wait_until("the poor budget", || {
        let poor = service.ask("/v1/completions", &tokens());
        poor["dynamax"]["depth_mean"].as_f64() < Some(0.9)
    });
    service.wait_for_words("the battery is low");
    service.wait_until("the mode", || (service.metric("power_mode") - 1.0).abs() < 0.5);
    assert_eq!(service.get("/v1/dynamax").json()["power_mode"], 1, "for the page, too");
    service.wait_for_words("the power mode was 0 and is 1");
}

#[test]
fn verified_exits_watch_the_board_too_and_say_the_same_words() {
    let board = Board::new(
        "[budget]\nenergy_per_token = \"1 J\"\n[exit]\nmode = \"verified\"\n[power]\nmeter = \"model\"\n\
         below_battery = { level = \"20 %\", energy_per_token = \"1 uJ\" }\n",
    );
    let battery = "sys/class/power_supply/BAT0/";
    put(&board, "var/lib/nvpmodel/status", "pmode:0000\n");
    put(&board, &format!("{battery}type"), "Battery\n");
    put(&board, &format!("{battery}capacity"), "80\n");
    let mut service = board.start();
    let text = |service: &Service<'_>| {
        service.ask("/v1/completions", &tokens())["choices"][0]["text"].take()
    };
    let full = text(&service);
    put(&board, "var/lib/nvpmodel/status", "pmode:0001\n");
    put(&board, &format!("{battery}capacity"), "10\n");
    service.wait_until("the mode", || {
        assert_eq!(text(&service), full, "whatever the battery");
        (service.metric("power_mode") - 1.0).abs() < 0.5
    });
    service.wait_for_words("the battery is low");
}
