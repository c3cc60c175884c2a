//! The ledger on real databases: every case runs on SQLite and on Postgres.

// Nothing here comes from outside: what fails is the test.
#![allow(clippy::unwrap_used)]

mod archive;
mod attack;
mod audit;
mod blocks;
mod faults;
mod grants;
mod growth;
mod guards;
/// The same key as in the end-to-end tests, which is not ours either.
#[path = "../../../../tests/payout/key.rs"]
mod key;
mod locks;
mod operator;
mod paying;
mod payouts;
mod postgres;
mod proven;
mod random;
mod rig;
mod schemes;
mod shares;

/// Runs each case on both databases.
macro_rules! on_both {
    ($($module:ident::$case:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                crate::$module::$case(crate::rig::Rig::sqlite()).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                crate::$module::$case(crate::rig::Rig::postgres()).await;
            })*
        }
    };
}

on_both! {
    shares::shares_count_once,
    shares::a_restart_goes_on,
    shares::slots_close_by_time,
    shares::slots_close_though_the_clock_is_put_back,
    shares::poisoned_records_are_set_aside,
    shares::a_record_that_stands_there_twice_is_told,
    shares::a_damaged_block_is_said_to_be_one,
    shares::a_record_that_the_database_refuses_is_set_aside,
    shares::a_long_backlog_is_drained,
    blocks::a_block_is_credited_exactly,
    blocks::maturity_is_at_one_hundred,
    blocks::an_orphan_is_reversed_and_credited_again,
    blocks::a_mature_orphan_is_covered_by_the_reserve,
    blocks::blocks_are_told_apart_by_hash,
    blocks::solo_is_paid_by_the_coinbase,
    blocks::a_solo_orphan_was_paid_nothing,
    blocks::the_window_is_cut_to_its_length,
    blocks::a_later_block_that_is_credited_first_takes_nothing,
    blocks::a_candidate_that_never_appears_is_given_up,
    blocks::a_block_without_shares_is_the_finders,
    blocks::one_hundred_thousand_miners,
    blocks::an_unknown_standing_moves_nothing,
    blocks::one_poisoned_block_holds_up_no_other,
    faults::a_crash_at_any_point_counts_each_share_once,
    faults::a_crash_while_a_block_moves,
    faults::crashes_at_random_moments,
    proven::every_share_is_proven_offline,
    proven::a_block_shows_its_weights,
    audit::planted_corruptions_are_found_by_name,
    audit::what_was_recorded_cannot_be_talked_away,
    attack::who_keeps_the_sums_is_found_by_the_steps,
    attack::spools_one_after_the_other,
    archive::a_database_put_back_reads_the_archive,
    archive::every_point_of_the_drain_may_be_the_last,
    growth::ranges_come_and_go,
    growth::what_windows_need_is_kept,
    growth::a_clock_that_was_ahead,
    growth::payments_by_the_slot_add_up_afterwards,
    growth::every_point_of_dropping_may_be_the_last,
    growth::a_ledger_that_runs_tidies_up,
    growth::a_database_of_version_5_goes_on,
    guards::the_journal_refuses_what_it_must,
    guards::verify_finds_what_was_tampered_with,
    guards::one_process_at_a_time,
    guards::another_network_is_refused,
    guards::a_spool_put_back_is_refused,
    guards::a_changed_migration_is_refused,
    guards::tables_are_looked_at,
    locks::how_far_the_drain_is_behind,
    operator::what_is_moved_by_hand,
    operator::an_order_waits_for_a_pool,
    operator::an_order_is_carried_out_once_whoever_dies,
    operator::what_was_moved_by_hand_is_verified,
    operator::thresholds_of_miners,
    operator::a_database_that_is_none_says_what_to_do,
    operator::slots_are_proven_offline,
    paying::from_coinbases_to_payments,
    paying::a_busy_pool_pays_too,
    paying::a_batch_without_its_coin_is_returned,
    paying::change_to_a_stranger_is_not_signed,
    paying::a_batch_on_the_change_of_a_replaced_one_is_returned,
    paying::coins_for_some_pay_some,
    payouts::one_payer_at_a_time,
    payouts::payments_are_never_changed,
    payouts::the_payments_are_held_against_the_journal,
    random::ten_thousand_steps,
    schemes::pps_pays_for_work_and_keeps_the_blocks,
    schemes::fpps_pays_the_mean_fees_too,
    schemes::a_mean_of_other_fees_is_found,
    schemes::pps_plus_shares_the_fees,
    schemes::from_pplns_to_pps_and_back,
    schemes::a_change_of_the_windows_length,
    schemes::terms_outlive_a_restart,
    schemes::reorganisations_of_every_scheme,
    schemes::coinbases_pay_windows_and_balances,
    schemes::a_split_outlives_kill_9,
    schemes::verify_finds_wrong_slots_and_splits,
}
