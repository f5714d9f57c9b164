"""``/map``: the stored maps, their clusters, and their points as JSON or as packed columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from e2vsearch.server.columns import pack_points, pack_values
from e2vsearch.server.parameters import MapPath, MetadataPath
from e2vsearch.server.responses import errors_of, json_response, returns
from e2vsearch.server.results import MapPoints, Maps, MapView
from e2vsearch.server.state import ServerState

_DIGITS = 4  # of a coordinate: a tenth of a pixel on a screen of 2,000; 100,000 points are 2.6 MB so
_PACKED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Columns, see the description of this operation.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def router(state: ServerState) -> APIRouter:
    """Return the routes over a collection."""
    routes = APIRouter(tags=["analysis"])
    collection = state.collection

    def view(name: str) -> MapView:
        found = collection.maps.load(name)
        counts = len(found.ids), int((found.cluster < 0).sum()), found.unplaced
        request = found.name, found.by, found.where, found.created_at, found.options
        return MapView(*request, *counts, list(found.clusters), list(found.left_out))

    def points(name: str) -> MapPoints:
        found = collection.maps.load(name)
        ids: list[int] = found.ids.tolist()
        segments, calls = (ids, None) if found.by == "segment" else (None, ids)
        x, y = (np.round(axis.astype(np.float64), _DIGITS).tolist() for axis in (found.x, found.y))
        return MapPoints(segments, calls, x, y, found.cluster.tolist())

    @routes.get("/map", summary="The maps that are stored", **returns(Maps, 409))
    async def list_maps(request: Request) -> Response:
        """`e2vsearch map` makes them."""

        def work() -> Maps:
            return Maps(list(collection.maps.list()))

        return json_response(Maps, await state.read(request, work))

    @routes.get("/map/{name}", summary="A map and its clusters", **returns(MapView, 404, 409, 422))
    async def get_map(name: MapPath, request: Request) -> Response:
        """Every cluster with its emotions, over-represented metadata, most central segments and trend."""
        return json_response(MapView, await state.read(request, lambda: view(name)))

    @routes.get("/map/{name}/points", summary="The points of a map", **returns(MapPoints, 404, 409, 422))
    async def get_map_points(name: MapPath, request: Request) -> Response:
        """Return a column each, all of the same length; coordinates are -1 to 1."""
        return json_response(MapPoints, await state.read(request, lambda: points(name)))

    @routes.get(
        "/map/{name}/columns",
        summary="The points of a map, packed",
        response_class=Response,
        responses={**errors_of(404, 409, 422), **_PACKED},
    )
    async def get_map_columns(name: MapPath, request: Request) -> Response:
        """Return what is known of each point, for pages that draw 100,000 of them.

        A 32-bit number of bytes, little-endian, so many bytes of JSON, then the columns that its `columns` list: name,
        type and scale of each, one after the other, each filled up to a multiple of eight bytes.
        """
        return _packed(await state.read(request, lambda: pack_points(collection.maps.point_columns(name))))

    @routes.get(
        "/map/{name}/columns/{key}",
        summary="What the recordings of a map's points have of a metadata key, packed",
        response_class=Response,
        responses={**errors_of(403, 404, 409, 422), **_PACKED},
    )
    async def get_map_values(name: MapPath, key: MetadataPath, request: Request) -> Response:
        """Return an index into `values` for each point, in the order of `/map/{name}/columns`; `name` is the name."""
        return _packed(await state.read(request, lambda: pack_values(collection.maps.value_column(name, key))))

    return routes


def _packed(body: bytes) -> Response:
    return Response(body, media_type="application/octet-stream", headers={"Cache-Control": "no-store"})
