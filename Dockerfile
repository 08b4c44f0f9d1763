# The service alone: bring a Postgres (DATABASE_URL). For a try without one, use ./dev demo.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make && rm -rf /var/lib/apt/lists/*
WORKDIR /build

# The dependencies first, on an empty crate: this layer is built again only when they change.
COPY Cargo.toml Cargo.lock build.rs sqlx.toml ./
COPY .cargo .cargo
RUN mkdir -p src migrations tests/it \
    && echo 'fn main() {}' | tee src/main.rs tests/it/main.rs >/dev/null && touch src/lib.rs \
    && cargo build --release --locked && rm -rf src

COPY migrations migrations
COPY .sqlx .sqlx
COPY src src
# Cargo goes by file times, and those of a checkout may lie before the empty crate's.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked && strip target/release/vobiz-cdr

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin vobiz
COPY --from=build /build/target/release/vobiz-cdr /usr/local/bin/vobiz-cdr
USER 10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["vobiz-cdr", "healthcheck"]
ENTRYPOINT ["vobiz-cdr"]
CMD ["serve"]
