//! The settings that all processes share, where several of them are told something.

use vobiz_cdr::db::base::setting::{self, SettingError};

use crate::support::database::Database;

async fn start(db: &Database, zone: Option<&str>, country: Option<&str>) -> Result<String, SettingError> {
    setting::check(&mut *db.connection().await, zone, country).await
}

#[tokio::test]
async fn of_two_that_start_with_different_words_one_is_refused() {
    // What the first one says may be what the database has anyway.
    for (one, other) in [("Europe/Berlin", "Asia/Dubai"), ("Asia/Kolkata", "Europe/Berlin")] {
        let db = Database::new().await;
        start(&db, Some(one), None).await.unwrap();
        let refused = start(&db, Some(other), None).await.unwrap_err();
        assert!(matches!(refused, SettingError::SaidOtherwise { column: "billing_zone", .. }), "{refused}");
        assert_eq!(db.text("select billing_zone from vobiz.setting").await, one);
        // Of the other setting nobody has said anything yet; and who says nothing takes what there is.
        assert_eq!(start(&db, Some(one), Some("49")).await.unwrap(), "49");
        let refused = start(&db, None, Some("971")).await.unwrap_err();
        assert!(matches!(refused, SettingError::SaidOtherwise { column: "home_country", .. }), "{refused}");
        assert_eq!(start(&db, None, None).await.unwrap(), "49");
        // The words tell how to change it for all.
        db.run("update vobiz.setting set home_country = '971'").await;
        assert_eq!(start(&db, Some(one), Some("971")).await.unwrap(), "971");
    }
    let db = Database::new().await;
    let both = tokio::join!(start(&db, Some("Europe/Berlin"), None), start(&db, Some("Asia/Dubai"), None));
    assert!(both.0.is_ok() != both.1.is_ok(), "{both:?}");
}
