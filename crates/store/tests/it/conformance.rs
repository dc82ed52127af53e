//! The suite that every engine passes: `conformance!` makes one test of each behaviour for one engine.
//!
//! An engine is known by an async function that opens it and returns the store and what must live beside it. Each test
//! uses chats, users and partitions of its own, so an engine may be shared.

mod appends;
mod histories;
mod loads;
mod models;

/// Every behaviour as a test of one engine.
macro_rules! conformance {
    ($engine:ident, $open:path) => {
        mod $engine {
            $crate::conformance::conformance!(@tests $open;
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
                loads::an_unknown_chat_is_none,
                loads::a_chat_without_snapshot_is_the_fold_of_its_rows,
                loads::members_are_those_of_the_snapshot_then_folded_on,
                loads::a_log_without_its_beginning_is_an_error,
                loads::any_snapshot_and_any_split_give_the_same_chat,
                models::a_projection_is_read_back_whole,
                models::heads_join_list_summary_and_watermark,
                models::a_left_chat_has_the_leaving_as_its_head,
                models::a_chat_without_summary_is_not_left_out,
                models::pages_of_chats_cover_all_once,
                models::checkpoints_only_move_forward,
                models::readers_keep_their_own_checkpoints,
                models::projections_in_any_order_and_grouping_give_the_same_rows,
            );
        }
    };
    (@tests $open:path; $($group:ident::$behaviour:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let (store, _beside) = $open().await;
                $crate::conformance::$group::$behaviour(&store).await;
            }
        )*
    };
}
pub(crate) use conformance;

conformance!(embedded, crate::embedded::open);
