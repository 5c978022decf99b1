"""What the explorer lets in: hosts, origins, tokens, methods; and the headers of all answers."""

import hashlib
import re
from dataclasses import replace

import pytest
from asgi import HOST, TOKEN, ask, post
from hypothesis import given, settings
from hypothesis import strategies as st

from kndb.explorer.guard import HEADERS, Refusal, Rules, form_allowed, host_allowed, judged

OPEN = Rules()
LOCKED = Rules(token=TOKEN, editing=True, port=8017)
COOKIE = {"cookie": f"kndb_explorer_8017={TOKEN}"}


def verdict(rules, method="GET", target="/", **headers):
    many = {"host": [HOST], **{name.replace("_", "-"): [value] for name, value in headers.items()}}
    found = judged(rules, method, target, {name: values for name, values in many.items() if values != [None]})
    return found.status if isinstance(found, Refusal) else found


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8017", True),
        ("LOCALHOST:1", True),
        ("[::1]:8017", True),
        ("evil.example", False),
        ("evil.example:8017", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1@evil.example", False),
        ("127.0.0.1:8017:1", False),
        ("127.0.0.1:x", False),
        ("[::1", False),
        ("", False),
        ("10.0.0.5", False),
    ],
)
def test_only_names_of_this_machine_are_hosts(host, allowed):
    assert host_allowed(OPEN, host) is allowed
    assert (verdict(OPEN, host=host) is None) is allowed


def test_on_all_addresses_any_literal_address_is_a_host_and_no_other_name():
    rules = Rules(hosts=("box",), any_address=True, token=TOKEN)
    for host in ("10.0.0.5:8017", "[fe80::1]:8017", "box:1"):
        assert host_allowed(rules, host)
    for host in ("evil.example", "10.0.0.5.evil.example", "10.0.0"):
        assert not host_allowed(rules, host)


def test_a_request_has_one_host():
    assert judged(OPEN, "GET", "/", {}).status == 421
    assert judged(OPEN, "GET", "/", {"host": [HOST, "evil.example"]}).status == 421


def test_nothing_is_written_without_allow_edits():
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PURGE", "get", ""):
        assert verdict(OPEN, method, origin=f"http://{HOST}") == 405, method
    assert verdict(OPEN, "HEAD") is None


def test_with_edits_every_method_but_get_and_head_needs_origin_and_token():
    own = {"origin": f"http://{HOST}", **COOKIE}
    assert verdict(LOCKED, "POST", **own) is None
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post"):
        assert verdict(LOCKED, method, **own) == 405, method
    for origin in (None, "null", "", "http://evil.example", f"https://{HOST}", "http://127.0.0.1:1", f"http://{HOST}/"):
        assert verdict(LOCKED, "POST", **{**own, "origin": origin}) == 403, origin
    for site in ("cross-site", "same-site"):
        assert verdict(LOCKED, "POST", **own, sec_fetch_site=site) == 403
    for cookie in (None, "", f"kndb_explorer_8017={TOKEN}x", f"kndb_explorer_1={TOKEN}", f"x={TOKEN}"):
        assert verdict(LOCKED, "POST", **{**own, "cookie": cookie}) == 401, cookie


def test_behind_a_proxy_with_tls_pages_have_an_origin_of_https():
    rules = replace(LOCKED, hosts=(*LOCKED.hosts, "kndb.example"))
    for host in ("kndb.example", "kndb.example:8443"):
        for origin, wanted in (
            (f"https://{host}", None),
            (f"http://{host}", None),
            ("https://evil.example", 403),
            (f"https://{host}.evil.example", 403),
            (f"https://{HOST}", 403),
        ):
            headers = {"host": [host], "origin": [origin], "cookie": [COOKIE["cookie"]]}
            found = judged(rules, "POST", "/edits/1/apply", headers)
            assert (None if found is None else found.status) == wanted, (host, origin)


def test_what_another_sites_page_embeds_is_not_even_made():
    for rules, own in ((OPEN, {}), (LOCKED, COOKIE)):
        for site in ("cross-site", "same-site", "Cross-Site"):
            for mode in (None, "no-cors", "cors", "same-origin", "websocket", ""):
                assert verdict(rules, **own, sec_fetch_site=site, sec_fetch_mode=mode) == 403, (site, mode)
            assert verdict(rules, **own, sec_fetch_site=site, sec_fetch_mode="navigate") is None
        for site in ("same-origin", "none", None):
            assert verdict(rules, **own, sec_fetch_site=site, sec_fetch_mode="no-cors") is None


def test_a_link_of_another_sites_page_brings_no_cookie_and_is_told_why():
    headers = {"host": [HOST], "sec-fetch-site": ["cross-site"], "sec-fetch-mode": ["navigate"]}
    found = judged(LOCKED, "GET", "/facts/1", headers)
    assert found.status == 401
    assert "press Enter in the address bar" in found.reason
    assert "address bar" not in judged(LOCKED, "GET", "/facts/1", {"host": [HOST]}).reason


@pytest.mark.parametrize("target", ["//[x", "//[x?token=1", "//[::1/?token=", "http://[?token=1", "//]?a", "*", ""])
def test_an_address_that_is_none_is_refused_and_no_error(editing, target):
    assert verdict(LOCKED, target=target) == 401
    assert ask(editing, target).status == 401
    assert ask(editing, target, headers=COOKIE).status in (200, 404)


def test_reading_needs_the_token_where_there_is_one():
    assert verdict(LOCKED) == 401
    assert verdict(LOCKED, **COOKIE) is None
    assert verdict(LOCKED, cookie=f"a=b; kndb_explorer_8017={TOKEN}; c=d") is None
    assert verdict(LOCKED, authorization=f"Bearer {TOKEN}") is None
    assert verdict(LOCKED, authorization=f"Basic {TOKEN}") == 401
    assert verdict(LOCKED, target="/?token=wrong") == 401


def test_the_token_leaves_the_address_and_leads_nowhere_else():
    for target, left in (
        (f"/facts/1?refinement=1&token={TOKEN}", "/facts/1?refinement=1"),
        (f"/?token={TOKEN}", "/"),
        (f"//evil.example/?token={TOKEN}", "/evil.example/"),
        (f"/\\evil.example/?token={TOKEN}", "/evil.example/"),
    ):
        assert judged(LOCKED, "GET", target, {"host": [HOST]}).address == left


def test_the_cookie_is_set_for_this_port_and_no_script_or_other_site(editing):
    found = ask(editing, f"/?token={TOKEN}")
    assert (found.status, found.header("location")) == (303, "/")
    assert found.header("set-cookie") == f"kndb_explorer_8017={TOKEN}; Path=/; HttpOnly; SameSite=Strict"
    assert ask(editing, "/", headers=COOKIE).status == 200
    assert ask(editing, "/").status == 401


def test_who_follows_a_link_with_the_token_is_led_on_by_a_page_of_this_server(editing):
    foreign = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    found = ask(editing, f'/facts/1?q="<b>&token={TOKEN}', headers=foreign)
    assert found.status == 200
    assert found.header("set-cookie").startswith(f"kndb_explorer_8017={TOKEN};")
    assert found.header("refresh") == "0; url=/facts/1?q=%22%3Cb%3E"
    assert found.text.count("<") == 5
    assert TOKEN not in found.text
    assert ask(editing, "/?token=wrong", headers=foreign).status == 401


def test_forms_carry_a_token_made_of_the_token_and_not_it(editing):
    assert LOCKED.form_token == hashlib.sha256(f"form {TOKEN}".encode()).hexdigest()
    text = ask(editing, "/edits/2", headers=COOKIE).text
    assert LOCKED.form_token in text
    assert TOKEN not in text
    assert not form_allowed(LOCKED, TOKEN)
    assert not form_allowed(OPEN, "")
    for token in ("", "x", TOKEN, LOCKED.form_token[:-1]):
        assert post(editing, "/edits/2/apply", {"token": token}, **COOKIE).status == 403
    assert not editing.database.edits.get(2).applied


def test_a_body_or_an_address_is_not_endless(editing):
    assert post(editing, "/edits/2/apply", {"token": "x" * 70_000}, **COOKIE).status == 413
    assert post(editing, "/edits/2/apply", {f"f{number}": "x" for number in range(99)}, **COOKIE).status == 400
    assert ask(editing, "/?q=" + "x" * 20_000, headers=COOKIE).status == 414
    assert "--facts FILE" in ask(editing, "/plan?answers=" + "1+Rome%0A" * 3_000, headers=COOKIE).text
    assert ask(editing, "/?" + "&".join(f"f{number}=x" for number in range(99)), headers=COOKIE).status == 400


@pytest.mark.parametrize(
    "target", ["/", "/facts/1", "/facts/1.json", "/facts/1.csv", "/nothing", "/static/explorer.css", "/static/none"]
)
def test_every_answer_has_the_headers(explorer, target):
    for found in (ask(explorer, target), ask(explorer, target, headers={"host": "evil.example"})):
        for name, value in HEADERS.items():
            wanted = "no-cache" if name == "cache-control" and found.status == 200 and "static" in target else value
            assert found.header(name) == wanted, name
        assert found.header("content-type")


def test_the_policy_allows_nothing_from_elsewhere_and_nothing_inline():
    policy = HEADERS["content-security-policy"]
    assert set(re.findall(r"'[^']*'|https?:|data:|\*", policy)) == {"'none'", "'self'"}


@given(st.text(max_size=40), st.text(max_size=20), st.text(max_size=40))
@settings(max_examples=80, deadline=None)
def test_no_stranger_is_let_in_whatever_they_send(host, method, origin):
    if not host_allowed(LOCKED, host):
        assert judged(LOCKED, method, "/", {"host": [host], "origin": [origin]}).status == 421
    found = judged(LOCKED, method, "/", {"host": [HOST], "origin": [origin]})
    assert found.status in (401, 403, 405)
