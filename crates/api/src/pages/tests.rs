use super::*;

fn words_between<'a>(text: &'a str, open: &'a str, close: char) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split(close).next())
}

fn files() -> impl Iterator<Item = File> {
    ASSETS.into_iter().chain([INDEX])
}

#[test]
fn every_file_that_is_asked_for_is_there_and_none_is_idle() {
    let mut used: Vec<&str> = words_between(INDEX.2, "\"assets/", '"').collect();
    for (_, _, content) in ASSETS {
        used.extend(words_between(content, "from './", '\''));
    }
    used.sort_unstable();
    used.dedup();
    let mut there = ASSETS.map(|(name, ..)| name);
    there.sort_unstable();
    assert_eq!(used, there);
}

#[test]
fn nothing_comes_from_elsewhere() {
    for (name, _, content) in files() {
        let outside: Vec<&str> = content
            .split(['"', '\'', '(', ' '])
            .filter(|word| word.contains("://") && !word.starts_with("http://www.w3.org/2000/svg"))
            .collect();
        assert!(outside.is_empty(), "{name}: {outside:?}");
        assert!(!content.contains("@import"), "{name}");
    }
}

/// The policy would stop all of it in the browser; here it is seen earlier.
#[test]
fn nothing_stands_inline_and_nothing_parses_markup() {
    let page = INDEX.2;
    assert!(words_between(page, "<script", '>').all(|attributes| attributes.contains("src=")));
    for inline in ["<style", " style=", " onclick=", " onload=", " onsubmit=", "javascript:"] {
        assert!(!page.contains(inline), "{inline}");
    }
    for (name, _, content) in ASSETS.into_iter().filter(|file| file.1 == JAVASCRIPT) {
        for parses in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
        {
            assert!(!content.contains(parses), "{name}: {parses}");
        }
    }
}

#[test]
fn every_id_that_the_scripts_name_is_in_the_page() {
    let ids: Vec<&str> = words_between(INDEX.2, " id=\"", '"').collect();
    for (name, _, content) in ASSETS.into_iter().filter(|file| file.1 == JAVASCRIPT) {
        for call in ["byId('", "put('"] {
            for id in words_between(content, call, '\'') {
                assert!(ids.contains(&id), "{name}: {id}");
            }
        }
    }
    let mut once = ids.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), ids.len(), "an id stands twice");
}

#[test]
fn a_file_that_the_visitor_has_is_not_sent_again() {
    let check = |known: Option<&str>, expect: StatusCode| {
        let mut headers = HeaderMap::new();
        if let Some(known) = known {
            headers.insert(header::IF_NONE_MATCH, known.parse().unwrap());
        }
        let response = file(INDEX, &headers);
        assert_eq!(response.status(), expect, "{known:?}");
        assert_eq!(response.headers()[header::ETAG], tag(INDEX.2));
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
    };
    let tag = tag(INDEX.2);
    check(None, StatusCode::OK);
    check(Some("\"0123456789abcdef\""), StatusCode::OK);
    check(Some(&tag), StatusCode::NOT_MODIFIED);
    check(Some(&format!("\"x\", W/{tag}")), StatusCode::NOT_MODIFIED);
}
