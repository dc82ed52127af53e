//! The suite that every engine passes: `conformance!` makes one test of each behaviour for one engine, and `sweeps!` one
//! of each that only engines have whose rows do not go by themselves.
//!
//! An engine is known by an async function that opens it and returns the store and what must live beside it. Each test
//! uses chats, users and partitions of its own, so an engine may be shared.

mod accounts;
mod appends;
mod belongings;
mod histories;
mod invites;
mod loads;
mod models;
mod opinions;
pub(crate) mod versions;

/// Every behaviour as a test of one engine.
macro_rules! conformance {
    ($(#[$attribute:meta])* $engine:ident, $open:path) => {
        mod $engine {
            $crate::conformance::conformance!(@tests [$(#[$attribute])*] $open;
                appends::rows_members_snapshot_and_position_come_back,
                appends::the_same_append_again_changes_nothing,
                appends::a_late_append_of_a_stale_owner_changes_nothing,
                appends::an_old_position_with_new_rows_keeps_the_position,
                appends::another_entry_under_a_stored_seq_is_refused_whole,
                appends::a_later_epoch_wins_and_an_earlier_one_does_not,
                appends::the_end_of_a_stay_is_not_taken_back_by_a_late_join,
                appends::a_user_who_comes_back_has_two_stays,
                appends::a_snapshot_never_goes_back,
                appends::a_row_of_another_chat_or_partition_is_refused_whole,
                appends::what_was_synced_is_never_above_what_is_stored,
                appends::appends_of_many_callers_at_once_all_land,
                appends::members_wait_for_the_row_they_need,
                appends::two_claims_of_one_direct_chat_agree_under_race,
                appends::a_meta_value_is_fixed_at_its_first_claim,
                histories::rows_come_in_order_and_through_is_the_last,
                histories::a_count_limit_cuts_the_page,
                histories::a_byte_limit_cuts_the_page_but_never_to_nothing,
                histories::nothing_above_a_hole_is_told,
                histories::an_after_above_the_head_is_told_the_head,
                histories::rows_below_the_first_kept_one_count_as_known,
                histories::an_unknown_chat_has_an_empty_history,
                histories::pages_across_buckets_join_without_hole,
                histories::at_least_waits_for_the_append,
                histories::at_least_gives_up_at_the_deadline,
                versions::an_edit_gives_its_message_another_body,
                versions::of_a_deleted_message_no_row_has_a_word_left,
                versions::a_change_reaches_across_buckets,
                versions::another_entry_under_a_changed_one_is_refused,
                loads::an_unknown_chat_is_none,
                loads::a_chat_without_snapshot_is_the_fold_of_its_rows,
                loads::members_are_those_of_the_snapshot_then_folded_on,
                loads::a_role_is_that_of_the_latest_entry_however_late_the_others_come,
                loads::a_log_without_its_beginning_is_an_error,
                loads::any_snapshot_and_any_split_give_the_same_chat,
                models::a_projection_is_read_back_whole,
                models::heads_join_list_summary_and_watermark,
                models::a_left_chat_has_the_leaving_as_its_head,
                models::a_chat_without_summary_is_not_left_out,
                models::a_list_shows_of_a_chat_what_the_stay_shows,
                models::a_name_is_the_latest_and_unknown_to_who_left_before_it,
                models::a_page_of_the_list_crosses_partitions,
                models::receipts_are_of_those_who_were_there_and_still_are,
                histories::the_stays_of_one_user_are_told_apart,
                models::pages_of_chats_cover_all_once,
                models::pages_of_all_summaries_cover_each_once,
                histories::the_chats_of_a_partition_are_those_that_have_rows,
                models::checkpoints_only_move_forward,
                models::readers_keep_their_own_checkpoints,
                models::projections_in_any_order_and_grouping_give_the_same_rows,
                opinions::a_fact_is_what_the_latest_entry_says,
                opinions::of_each_user_a_message_has_the_latest_reaction,
                opinions::a_deleted_message_has_no_reactions_and_gets_none,
                opinions::a_page_of_reactions_ends_with_a_whole_message,
                accounts::a_user_comes_back_whole_with_its_version,
                accounts::a_user_is_written_only_over_the_expected_version,
                accounts::users_who_leave_are_listed_until_their_row_says_otherwise,
                accounts::of_many_writes_with_one_expected_version_exactly_one_lands,
                accounts::a_counter_by_compare_and_set_loses_no_step,
                accounts::a_handle_belongs_to_whoever_claimed_it_first,
                accounts::of_many_claims_of_one_handle_exactly_one_wins,
                accounts::a_handle_is_given_up_only_by_its_owner,
                accounts::handles_are_listed_by_prefix_in_the_order_of_their_bytes,
                accounts::a_refresh_family_comes_back_whole_and_is_listed,
                accounts::a_refresh_family_is_written_only_over_the_expected_version,
                accounts::a_refresh_family_never_changes_its_user,
                accounts::a_refresh_family_is_removed_once,
                accounts::families_of_a_user_are_bounded_and_listed_whole,
                accounts::a_send_claim_is_fixed_for_a_day,
                accounts::of_many_claims_of_one_key_exactly_one_wins,
                accounts::keys_of_two_users_are_apart,
                accounts::what_was_stored_is_never_noted_as_rejected,
                accounts::texts_beyond_their_bounds_are_refused,
                belongings::a_device_is_seen_named_listed_and_removed,
                belongings::devices_of_a_user_are_bounded_and_listed_whole,
                belongings::a_block_holds_one_way_until_it_is_lifted,
                belongings::ten_thousand_blocks_come_in_pages,
                belongings::a_setting_is_written_only_over_the_expected_version,
                belongings::settings_come_in_pages_by_chat,
                belongings::a_ticket_is_taken_once,
                belongings::an_expired_ticket_is_none_and_gone,
                belongings::an_erased_user_keeps_row_and_handle_alone,
                belongings::belongings_beyond_their_bounds_are_refused,
                invites::an_invite_comes_back_whole_and_is_listed,
                invites::of_twenty_users_at_once_an_invite_for_five_takes_five,
                invites::a_user_is_counted_once_and_keeps_the_first_use,
                invites::a_removed_invite_is_gone_with_its_uses,
                invites::invites_of_a_chat_are_bounded_and_listed_whole,
                invites::invites_of_a_maker_come_in_pages_and_go_with_them,
            );
        }
    };
    (@tests [$(#[$attribute:meta])*] $open:path; $($group:ident::$behaviour:ident,)*) => {
        $crate::conformance::conformance!(@each [$(#[$attribute])*] [$open] $($group::$behaviour,)*);
    };
    (@each $attributes:tt $open:tt $($group:ident::$behaviour:ident,)*) => {
        $($crate::conformance::conformance!(@one $attributes $open $group::$behaviour);)*
    };
    (@one [$(#[$attribute:meta])*] [$open:path] $group:ident::$behaviour:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])*
        async fn $behaviour() {
            let (store, _beside) = $open().await;
            $crate::conformance::$group::$behaviour(&store).await;
        }
    };
}
pub(crate) use conformance;

/// Every sweep as a test of one engine.
macro_rules! sweeps {
    ($engine:ident, $open:path) => {
        mod $engine {
            $crate::conformance::conformance!(@tests [] $open;
                accounts::a_sweep_takes_the_ended_families_alone,
                accounts::a_sweep_takes_the_old_send_claims_alone,
                belongings::a_sweep_takes_the_expired_tickets_alone,
                invites::ended_invites_are_named_the_oldest_first,
            );
        }
    };
}

conformance!(embedded, crate::embedded::open);
sweeps!(embedded_sweeps, crate::embedded::open);
conformance!(
    #[ignore = "needs Cassandra: `cargo xtask test cql`"]
    cql,
    crate::cql::open
);
