"""What a demanding user expects, point by point, and which test holds each: a test that is renamed or gone is noticed.

A point that no test can hold says why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Point:
    """One expectation; the tests that hold it, as ``file:test`` without ``test_``, or else why there is none."""

    wanted: str
    tests: tuple[str, ...]
    why_none: str = ""


def held(wanted: str, *tests: str) -> Point:
    return Point(wanted, tests)


def open_(wanted: str, why: str) -> Point:
    return Point(wanted, (), why)


FEATURES = (
    held(
        "query by a file, by drop and on stdin",
        "page_asking:a_clip_finds_ranked_calls_and_a_segment_is_heard",
        "browsing:a_clip_on_stdin_is_a_reference",
    ),
    held(
        "query by a stored id and by a result",
        "references:results_are_references",
        "doors:every_door_gives_the_same_answer",
    ),
    held("query by a vector", "collection/collection_asking:every_kind_of_reference_gives_the_same"),
    held(
        "queries combined, subtracted, weighted",
        "doors:every_door_gives_the_same_answer",
        "query_language:reasons_of_a_mixture",
    ),
    held(
        "filters by metadata, with near values",
        "collection/collection_asking:filters_hold_for_every_hit",
        "browsing:nothing_found_offers_what_comes_near",
    ),
    held(
        "a score, and what it is worth here",
        "background:a_percentile_is_the_share_of_pairs_that_are_less_alike",
        "page_asking:each_hit_says_what_its_score_is_worth",
    ),
    held(
        "scores are exact, and the clip itself has 1",
        "collection/collection_asking:every_kind_of_reference_gives_the_same",
        "cli_groups:numbers_have_six_places",
    ),
    held(
        "incremental and resumable",
        "ingest:a_second_run_finds_nothing_to_do",
        "ingest_stops:kill_9_loses_and_repeats_nothing",
    ),
    held(
        "a bad file is skipped, named and counted",
        "ingest:one_bad_file_never_stops_the_rest",
        "cli:ingest_reports_failures_with_exit_3",
    ),
    held(
        "progress with what is left",
        "ingest_order:what_is_left_is_estimated_by_size",
        "ingest_order:the_bar_fits_a_terminal",
    ),
    held(
        "tables for people, JSON and CSV for machines", "cli:query_in_every_format", "cli_tables:a_table_is_as_it_was"
    ),
    held(
        "Python with the words of the command line",
        "cli:a_command_is_a_method",
        "cli_query:every_option_is_a_field_of_the_query",
    ),
    held("an HTTP API", "server/server_openapi:the_api_keeps_to_its_document"),
    held(
        "the model is pinned to the collection",
        "collection/collection_asking:another_encoder_is_refused",
        "golden:other_vectors_under_the_same_revision_are_refused",
    ),
    held(
        "a map with colour, hover card and lasso",
        "page_map:points_are_coloured_by_what_is_chosen",
        "page_map:a_lasso_selects_labels_and_saves",
    ),
    held("sound from every point of the map", "page_map:a_point_is_described_and_heard_and_leads_to_more"),
    held("waveforms coloured by emotion", "page_calls:the_agent_has_no_emotion"),
    held("channels kept apart, a strip each", "page_calls:the_agent_has_no_emotion", "cli_show:a_call_in_80_columns"),
    held(
        "emotion over time",
        "page_calls:turning_points_overlap_and_the_strongest_are_marked",
        "timeline:a_planted_course",
        "trends:emotions_by_week",
    ),
    held("a summary of the call", "page_calls:the_call_is_told_in_words", "timeline:every_door_says_the_same"),
    held("the keyboard throughout", "page_journey:from_a_clip_to_trends_by_keyboard"),
    held("MCP for agents", "mcp:a_client_lists_and_calls_every_tool"),
    held(
        "a free port, a safe host",
        "server/server_run:a_port_that_is_taken",
        "server/server_run:what_it_will_not_start_with",
    ),
)

POINTS = {
    1: held(
        "-k of a billion takes no memory",
        "query_k:more_hits_than_there_are_segments",
        "query_k:more_suggestions_than_there_are_segments",
    ),
    2: held(
        "an emotion is named where it leads, else unsure or too short",
        "emotions:when_a_class_is_named",
        "page_asking:no_emotion_is_guessed_where_none_is_named",
        "cli_tables:an_emotion_has_its_name_beside_its_colour",
    ),
    3: held(
        "a rehearsal says what would be done in which collection",
        "ingest_mistyped:a_rehearsal_is_named_by_its_collection",
        "ingest:a_dry_run_writes_nothing",
    ),
    4: held(
        "a read-only disk can be read",
        "catalog_disks:reading_needs_nothing_to_be_written",
        "catalog_disks:writing_says_what_is_read_only",
    ),
    5: held("a place that cannot be written is one line", "catalog_disks:a_folder_that_cannot_be_made"),
    6: held(
        "tables fit 80 columns, a line a hit",
        "cli_tables:any_names_fit_and_numbers_stay_whole",
        "cli_tables:a_table_is_as_it_was",
    ),
    7: held("the first command works after a plain install", "encoders:auto_is_light_where_emotion2vec_cannot_be_had"),
    8: held(
        "what is there can be looked at without a reference",
        "browsing:calls_of_a_filter",
        "browsing:a_query_without_a_reference",
        "browsing:clip_writes_the_sound",
        "cli_show:a_call_in_80_columns",
        "page_calls:calls_are_browsed_without_a_reference",
    ),
    9: held(
        "progress says what it does, by seconds of audio",
        "ingest_order:a_run_tells_what_it_does",
        "ingest_stops:ctrl_c_ends_cleanly_and_a_rerun_goes_on",
    ),
    10: held("ids do not depend on which worker was first", "ingest_order:ids_follow_the_list_of_files"),
    11: held(
        "a mistyped path makes no collection",
        "ingest_mistyped:a_mistyped_path_makes_no_collection",
        "ingest_mistyped:a_worker_makes_no_collection",
        "ingest_mistyped:in_python",
    ),
    12: held("two ingests at once say so", "ingest_mistyped:two_at_once"),
    13: held(
        "commands in panels and groups",
        "cli_groups:help_is_in_panels_and_names_every_command",
        "cli_groups:every_group_has_a_main_command_which_its_name_alone_stands_for",
    ),
    14: held(
        "help of a query in panels, with all kinds of references",
        "cli:help_fits_the_screen_and_ends_in_examples",
        "house:every_command_and_option_has_help",
    ),
    15: held(
        "the same options everywhere, no types of Python",
        "cli_groups:every_command_has_the_same_options_of_output",
        "cli_groups:help_speaks_no_python",
        "cli_evaluating:stored_segments_need_no_encoder",
    ),
    16: held("an index build prints a table", "cli_tables:a_table_is_as_it_was", "index_commands:the_life_of_an_index"),
    17: held("doctor and status name one space", "cli_groups:doctor_and_status_name_one_space"),
    18: held(
        "a suffix that is no format is refused",
        "cli_groups:a_suffix_that_says_nothing_is_refused_before_anything_is_done",
    ),
    19: held("a device that is not used is told", "cli_groups:a_device_that_is_not_used_is_told"),
    20: held("encoders are listed as users have them", "cli_groups:the_list_of_encoders_is_of_those_that_users_have"),
    21: held(
        "wrong usage ends with 2, in our words",
        "cli:exit_codes_and_messages",
        "cli_query:a_value_that_is_none_says_what_to_write",
    ),
    22: held(
        "no hits offer what was meant",
        "browsing:nothing_found_offers_what_comes_near",
        "page_asking:no_hits_lead_to_the_value_that_was_meant_and_hits_are_saved",
    ),
    23: held(
        "compare takes ids",
        "doors:every_door_compares_alike",
        "same_figures:what_is_stored_is_compared_without_an_encoder",
    ),
    24: held(
        "a sentence in place of a reference points to --text", "browsing:words_in_a_reference_s_place_point_to_text"
    ),
    25: held(
        "near names of labels are told",
        "cli_groups:a_label_that_is_nearly_another_is_told",
        "page_labels:a_label_that_is_nearly_another_is_asked_about",
    ),
    26: held("a queue keeps its encoder", "worker/worker_commands:ingest_queues_and_workers_do_it"),
    27: held("numbers have six places", "cli_groups:numbers_have_six_places"),
    28: held("one is said as one", "cli_groups:counts_of_one_are_said_as_one"),
    29: held(
        "other spellings say what to write; - is stdin",
        "cli_query:no_old_spelling_is_accepted",
        "browsing:a_clip_on_stdin_is_a_reference",
    ),
    30: held("a short README and a site for the rest", "docs:readmes_are_short"),
    31: held(
        "what a score is worth stands beside it",
        "cli_query:the_command_line_is_the_method",
        "background:a_percentile_is_the_share_of_pairs_that_are_less_alike",
        "docs:readme_runs_and_prints_what_it_shows",
    ),
    32: held("the Chinese README says as much as the English", "docs:chinese_readme_shows_the_same"),
    33: held(
        "what documents show runs",
        "docs:readme_runs_and_prints_what_it_shows",
        "docs:page_runs_and_prints_what_it_shows",
        "examples:python_of_the_page_runs",
        "demo:it_finds_the_agitated_calls_first",
    ),
    34: held(
        "a map says which points carry sound, and in the page all do",
        "maps/maps_files:page_shows_what_is_not_named_paler_than_any_emotion",
        "page_map:a_point_is_described_and_heard_and_leads_to_more",
    ),
    35: held(
        "one palette everywhere",
        "palette:the_page_has_the_same_colours",
        "maps/maps_files:clusters_have_the_colour_of_their_main_emotion",
    ),
    36: held(
        "lasso, box, filter, more like these, names that differ",
        "page_map:a_lasso_selects_labels_and_saves",
        "maps/maps_columns:clusters_of_one_name_are_called_by_what_differs",
        "maps/maps_files:a_date_that_is_the_file_s_own_is_not_shown",
    ),
    37: held("names on a map do not cover each other", "maps/maps_files:names_do_not_lie_on_each_other"),
    38: held(
        "calls, map, trends and labels are views of the page, and a map is made there",
        "page_map:every_view_can_be_used_by_everyone",
        "page_map:a_map_is_made_from_the_page",
    ),
    39: held(
        "strips by channel, a transcript that follows",
        "page_calls:the_strips_are_clicked_and_enlarged",
        "page_calls:a_hits_call_is_opened_heard_and_stepped_through_by_keyboard",
    ),
    40: held(
        "errors in the page's words, beside the field",
        "page_asking:a_reference_that_is_none_is_said_beside_its_field",
        "page_asking:filters_are_seen_and_a_bad_one_is_explained",
        "page_calls:what_is_gone_is_said_in_the_pages_words",
    ),
    41: held(
        "a line where likeness ends",
        "page_asking:each_hit_says_what_its_score_is_worth",
        "page_asking:it_says_why_when_asked",
    ),
    42: held(
        "keys 1 to 9 label; hits are saved; a clip survives a reload",
        "page_labels:a_segment_is_heard_named_by_keys_and_taken_back",
        "page_labels:labels_are_trained_on_judged_applied_and_filtered_by",
        "page_asking:no_hits_lead_to_the_value_that_was_meant_and_hits_are_saved",
        "page_asking:a_clip_survives_a_reload",
    ),
    43: held("a page that is not built says what to type", "server/server_app:where_the_page_is_not_built_it_says_so"),
    44: held(
        "light, dark, narrow and Chinese, without violations",
        "page_map:every_view_can_be_used_by_everyone",
        "page_calls:everybody_can_read_it",
        "page_trends:trends_can_be_used_by_everyone",
        "page_labels:labels_can_be_used_by_everyone",
    ),
    45: held(
        "results in a notebook",
        "notebook:hits_have_their_sound_and_a_caption",
        "notebook:the_tour_runs",
        "listing:a_listing_turns_into_a_data_frame",
    ),
    46: held(
        "a hit is a reference; opening makes nothing",
        "references:results_are_references",
        "collection/collection_opening:opening_what_is_not_there_makes_nothing",
    ),
    47: held("typed, documented, one tree of errors", "docs:docstring_examples_run"),
    48: held(
        "Postgres",
        "catalog_opening:a_server_that_does_not_answer",
        "server/server_recordings:pages_and_values_of_both_databases",
    ),
    49: held("a killed worker's recordings are taken over", "worker/worker:a_killed_workers_recordings_are_taken_over"),
    50: held(
        "the wheel holds everything",
        "distribution:the_wheel_holds_every_file_of_the_package",
        "distribution:migrations_run_from_the_wheel",
    ),
}

ALL = (*FEATURES, *POINTS.values())


def is_there(test: str) -> bool:
    """Whether a test of that name is in that file."""
    file, _, name = test.partition(":")
    folder, _, stem = file.rpartition("/")
    path = TESTS / folder / f"test_{stem}.py"
    if not path.is_file():
        return False
    return (
        re.search(rf"^(async )?def test_{re.escape(name)}\(", path.read_text(encoding="utf-8"), re.MULTILINE)
        is not None
    )


def test_every_point_is_answered() -> None:
    assert list(POINTS) == list(range(1, 51))
    assert all(bool(point.tests) != bool(point.why_none) for point in ALL)
    assert [number for number, point in POINTS.items() if point.why_none] == []
    assert not any(point.why_none for point in FEATURES)


@pytest.mark.parametrize("point", ALL, ids=lambda point: point.wanted)
def test_what_holds_it_is_there(point: Point) -> None:
    assert [test for test in point.tests if not is_there(test)] == []


def test_one_that_is_gone_would_be_seen() -> None:
    assert not is_there("background:what_is_not_there")
    assert not is_there("what_is_not_there:a_percentile_is_the_share_of_pairs_that_are_less_alike")
