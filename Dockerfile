# The service alone: bring a Postgres (DATABASE_URL), or see compose.yaml, which has one. For a try without Docker: ./dev demo.
#
# Needs no BuildKit. Runs as uid 10001 (or any other: `--user`) on a read-only root file system. After SIGTERM it takes
# callbacks for five more seconds and ends within 25: give it `--stop-timeout 30`, or docker kills it after ten.

FROM rust:1.95-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082 AS build
# Where there is a digest, nobody looks at the name.
RUN rustc --version | grep '^rustc 1\.95\.'
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# Nobody debugs in the image: half the size, and faster to build.
ENV CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=symbols

# The dependencies first, on an empty crate: this layer is built again only when the manifest or the lock file changes.
# Tests, benches and examples are not in the build context, so their sections go: cargo would miss their files.
COPY Cargo.toml Cargo.lock build.rs sqlx.toml ./
COPY .cargo .cargo
RUN awk '/^\[/ { skip = /^\[\[(test|bench|example)\]\]/ } !skip' Cargo.toml > kept && mv kept Cargo.toml \
    && mkdir -p src migrations/repeatable && echo 'text 0' > migrations/repeatable/ORDER && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo build --release --locked && rm -r src

COPY migrations migrations
COPY .sqlx .sqlx
COPY src src
# docker build --build-arg COMMIT=$(git rev-parse --short=12 HEAD): `vobiz-cdr --version` and the metrics say it.
ARG COMMIT=unknown
ENV VOBIZ_CDR_COMMIT=$COMMIT
# Cargo goes by file times, and those of a checkout may lie before the empty crate's.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked

FROM debian:bookworm-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171
RUN grep '^VERSION_CODENAME=bookworm$' /etc/os-release
LABEL org.opencontainers.image.title="vobiz-cdr" \
      org.opencontainers.image.description="Every Vobiz call, exact and complete, in your own Postgres" \
      org.opencontainers.image.licenses="Apache-2.0"
# A name for the user, which some programs ask for; the number is what counts (files are made readable for it).
RUN groupadd --system --gid 10001 vobiz \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir / --shell /usr/sbin/nologin vobiz
# The certificates alone: their package would bring openssl along.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /build/target/release/vobiz-cdr /usr/local/bin/
USER 10001:10001
# Inside a container, loopback is nobody else's: the ops port must listen on all addresses, and is published with care.
ENV CDR_OPS_LISTEN=0.0.0.0:9090
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["vobiz-cdr", "healthcheck"]
ENTRYPOINT ["vobiz-cdr"]
CMD ["serve"]
