//! What miners check by themselves: the chain of segments and their files, proofs of shares, the weights of blocks, what
//! slots have paid.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use ledger::{
    Wanted, Worker, hash,
    proof::{Seal, ShareProof, SlotRates, Weights},
};
use serde::{Deserialize, Serialize};
use tokio::{fs::File, io::AsyncReadExt};

use super::blocks::Part;
use crate::{
    fault::{Fault, Params, Place},
    figures::{Shown, answer},
};

/// One page of the chain, and how long it is.
#[derive(Serialize)]
pub(crate) struct Segments {
    segments: Vec<Seal>,
    total: u64,
}

/// Which share.
#[derive(Deserialize)]
pub(crate) struct Share {
    worker: String,
    hash: String,
    time_ms: Option<u64>,
}

/// How much of a file is read at a time.
const PIECE: usize = 64 << 10;

/// Oldest first.
pub(crate) async fn segments(
    State(shown): State<Arc<Shown>>,
    Params(part): Params<Part>,
) -> Result<Json<Segments>, Fault> {
    let (limit, offset) = part.checked()?;
    let segments = answer(shown.ledger.segments(limit, offset.into())).await?;
    let total = answer(shown.ledger.segment_count()).await?;
    Ok(Json(Segments { segments, total }))
}

/// The file of a segment, as it is kept.
pub(crate) async fn segment(
    State(shown): State<Arc<Shown>>,
    Place(sequence): Place<u64>,
) -> Result<Response, Fault> {
    let path = answer(shown.ledger.segment_file(sequence)).await?.ok_or(Fault::NoSuchSegment)?;
    let file = File::open(path).await.map_err(|_| Fault::NoSuchSegment)?;
    let pieces = stream::try_unfold(file, |mut file| async move {
        let mut piece = vec![0; PIECE];
        let length = file.read(&mut piece).await?;
        piece.truncate(length);
        Ok::<_, std::io::Error>((length > 0).then_some((piece, file)))
    });
    let name = format!("attachment; filename=\"segment-{sequence}.zst\"");
    let headers =
        [(header::CONTENT_TYPE, "application/zstd".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// That a share is in a segment.
pub(crate) async fn proof(
    State(shown): State<Arc<Shown>>,
    Params(share): Params<Share>,
) -> Result<Json<ShareProof>, Fault> {
    let tag = Wanted::tag(&share.hash).ok_or_else(|| {
        let text =
            "hash must be the hash of the share's header as people read it, 64 hex digits, or its last 16";
        Fault::BadRequest(text.to_owned())
    })?;
    let worker = Worker::identity(&share.worker).map_err(|error| Fault::BadRequest(error.to_string()))?;
    let wanted = Wanted { worker, tag, time_ms: share.time_ms };
    answer(shown.ledger.prove(&wanted)).await?.map(Json).ok_or(Fault::NoSuchShare)
}

/// What a block was divided by.
pub(crate) async fn weights(
    State(shown): State<Arc<Shown>>,
    Place(place): Place<String>,
) -> Result<Json<Weights>, Fault> {
    let hash = hash::read(&place)
        .ok_or_else(|| Fault::BadRequest("a block's hash has 64 hex digits, as people read it".into()))?;
    answer(shown.ledger.block_weights(&hash)).await?.map(Json).ok_or(Fault::UnknownBlock)
}

/// What a slot has paid for work at a fixed rate.
pub(crate) async fn rates(
    State(shown): State<Arc<Shown>>,
    Place(slot): Place<i64>,
) -> Result<Json<SlotRates>, Fault> {
    answer(shown.ledger.slot_rates(slot)).await?.map(Json).ok_or(Fault::NoSuchSlot)
}
