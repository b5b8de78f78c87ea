use super::*;
use crate::example;
use crate::report::analyse::analyse;

/// The page's pictures, each as its own document.
fn pictures(page: &str) -> Vec<String> {
    page.split("<svg")
        .skip(1)
        .filter_map(|rest| rest.split_once("</svg>"))
        .map(|(svg, _)| format!("<svg{svg}</svg>"))
        .collect()
}

#[test]
fn every_picture_is_well_formed() {
    let page = render(&example::report());
    let pictures = pictures(&page);
    assert_eq!(pictures.len(), 7, "start, two waterfalls, two strips, memory, size");
    for picture in &pictures {
        let document = roxmltree::Document::parse(picture).unwrap_or_else(|e| panic!("{e} in {picture}"));
        assert!(document.descendants().any(|node| node.has_tag_name("rect") || node.has_tag_name("circle")));
    }
}

#[test]
fn nothing_lies_outside_its_picture() {
    for picture in pictures(&render(&example::report())) {
        let document = roxmltree::Document::parse(&picture).expect("well formed");
        let view: Vec<f64> = document
            .root_element()
            .attribute("viewBox")
            .expect("a view box")
            .split(' ')
            .map(|n| n.parse().expect("a number"))
            .collect();
        for node in document.descendants() {
            for (name, limit) in
                [("x", view[2]), ("x2", view[2]), ("cx", view[2]), ("y", view[3]), ("y2", view[3])]
            {
                if let Some(value) = node.attribute(name) {
                    let value: f64 = value.parse().expect("a coordinate");
                    assert!((0.0..=limit).contains(&value), "{name}={value} in {picture}");
                }
            }
        }
    }
}

#[test]
fn both_models_and_the_kind_of_host_are_named() {
    let page = render(&example::report());
    for wanted in
        ["container", "VM", "KVM WITHOUT hardware assistance", "The control passed", "another machine"]
    {
        assert!(page.contains(wanted), "{wanted}");
    }
}

#[test]
fn the_page_fetches_nothing_and_runs_nothing() {
    let page = render(&example::report());
    for unwanted in ["<script", "http://", "https://", "<link", "<img", "@import", "url("] {
        assert!(!page.contains(unwanted), "{unwanted}");
    }
}

#[test]
fn text_from_outside_is_escaped() {
    let mut report = example::report();
    report.experiment.reply = Some("<script>alert(1)</script>".to_owned());
    report.experiment.image = "<b>demo".to_owned();
    let page = render(&report);
    assert!(!page.contains("<script") && !page.contains("<b>demo"));
}

#[test]
fn a_report_with_gaps_still_makes_a_page() {
    let mut report = example::report();
    for measured in &mut report.subjects {
        measured.size = None;
        for sample in &mut measured.samples {
            sample.memory = None;
            sample.milestones.clear();
        }
    }
    report.subjects[1].samples.clear();
    analyse(&mut report);
    let page = render(&report);
    assert!(page.contains("Memory was not measured"));
    for picture in pictures(&page) {
        roxmltree::Document::parse(&picture).expect("well formed");
    }
    report.subjects.clear();
    analyse(&mut report);
    assert!(render(&report).contains("No start was measured"));
}
