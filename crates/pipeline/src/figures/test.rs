//! What texts claim, true and false.

use jiff::civil::date;

use serde_json::json;

use super::{Calendar, Ledger, Phase, arithmetic, line_with, misstated, uncited};

fn faults(text: &str) -> Vec<String> {
    arithmetic(text).iter().map(|fault| fault.message.clone()).collect()
}

#[test]
fn what_adds_up_is_no_fault() {
    for text in [
        "21 stalls × EUR 850 × 12 months = EUR 214,200",
        "EUR 3.2 million + EUR 1.6 million + EUR 1.1 million + EUR 0.5 million = EUR 6.4 million",
        "EUR 3.2 + 1.6 + 1.1 + 0.5 million = EUR 6.4 million",
        "In 2027 21 stalls × 850 = 17,850 a month",
        "EUR 214,200 = 21 × EUR 850 × 12",
        "8% × 90,000 = 7,200",
        "11 of 32 stalls (34%) go to starters",
        "11 of the 32 stalls (34.4%)",
        "1,400 m³ at EUR 300 per m³, EUR 420,000 in all",
        "EUR 6.4 million in all: EUR 3.2 million from the city, EUR 1.6 million from the fund, EUR 1.1 million from a bank and EUR 0.5 million in shares",
        "40% + 35% + 25% = 100%",
        "2,600 m² plus 1,600 m² makes 4,200 m²",
        "100 / 3 ≈ 33",
        "1,237 × 9 = about 11,000",
        "(21 × 850 = 17,850)",
        "EUR 293,400 ≈ EUR 293,000",
        "11 × 90,000 × 8% + 21 × 850 × 12 = EUR 293,400",
        "The loan is 25 years at 4%, EUR 70,400 a year.",
        "21 stalls at EUR 850 a month and 11 starters",
        "On 2027-03-01 = start, 5-6 weeks = one month and a half",
        "score = 3/5, version 1.2.3 = 4",
        "a = b + c",
        "12 stalls at EUR 850 a month, EUR 500,000 in all",
        "x = 3, y = 4",
        "The total of EUR 6.4 million includes: EUR 420,000 a year for soil, EUR 3 per visit",
        "6 × 7 = 42, 42 + 1 = 43",
        "3 × 4 = 12 = 2 × 6",
        "```\n1 + 1 = 3\n```",
        "| Item | EUR |\n|---|---:|\n| Soil | 420,000 |\n| Roof | 1,680,000 |\n| **Total** | **2,100,000** |",
        "| Item | Share |\n|---|---|\n| a | 33% |\n| b | 33% |\n| c | 33% |\n| Total | 100% |",
        "| a | 1 |\n| b | x |\n| Total | 7 |",
        "| a | 1 |\n| b | 2 |\n| Subtotal | 3 |\n| c | 4 |\n| d | 5 |\n| Subtotal | 9 |\n| Total | 12 |",
        "| Total |\n| 3 |",
        // In words.
        "25% of EUR 6.4 million is EUR 1.6 million, and a third of it is more",
        "EUR 1.6 million (25% of EUR 6.4 million)",
        "EUR 1,130,000, that is 18% of the EUR 6.4 million budget",
        "A contingency of 10% on EUR 5.8 million is EUR 0.58 million.",
        "half of EUR 6.4 million is EUR 3.2 million",
        "two thirds of EUR 6 million is EUR 4 million",
        "three quarters of EUR 8 million is EUR 6 million",
        "a fifth of EUR 50 is EUR 10, and a tenth of EUR 50 is EUR 5",
        "10 ÷ 2 = 5, 7 − 2 = 5, 8 + (-3) = 5",
        "25% of EUR 6.4 million, EUR 200,000 a year",
        "10% of EUR 850 a month is EUR 1,020 a year",
        "34% of 32 stalls, 12 of them cold",
        "20% of the 40 places in 3 towns is 8",
        "visits rise from 60,000 to 90,000 (+50%), and costs fall from EUR 50 to EUR 40 (-20%)",
        "widened from 20 to 30 stalls (60% of them cold)",
        "the share grows from 30% to 40% (+10%)",
        "21 stalls at EUR 850 a month for 12 months come to EUR 214,200 a year",
        "21 stalls at EUR 850 a month for 2 years come to EUR 428,400",
        "12 months at EUR 850 a month, EUR 10,200 in all",
        "32 stalls at EUR 850 a month are EUR 27,200 a month",
        "32 stalls at EUR 850 a month are EUR 326,400 a year",
        "2 halls with 16 stalls at EUR 850 each are EUR 27,200",
        "EUR 850 a month is EUR 10,200 a year.",
        "EUR 850 a month is EUR 900 less",
        "North hall EUR 1,240,000 and south hall EUR 560,000, together EUR 1,800,000.",
        "EUR 3.2 million of EUR 6.4 million and EUR 1 million, together EUR 4.2 million",
        "EUR 600,000 for soil, EUR 45,000 for the pilot, then EUR 9,000",
        "EUR 17,850 a month (EUR 214,200 a year)",
        "7,500 visits a month (90,000 a year)",
        "EUR 850 a month (EUR 900 a year later)",
        "EUR 6.4 million less EUR 4.8 million leaves EUR 1.6 million",
        "EUR 6.4 million divided by 32 stalls is EUR 200,000 a stall",
        "10 - 12 weeks is 3 months, and 2 + 3 days is a week",
        "EUR 3.2 million from the city and EUR 1.6 million from the fund are EUR 4.8 million together.",
        "EUR 3.2 million and EUR 1.6 million of EUR 6.4 million are EUR 1 million together",
        "Together EUR 3.2 million and EUR 1.6 million come to EUR 4.8 million.",
        "EUR 6.4 million, of which EUR 3.2 million from the city and EUR 1.6 million from the fund.",
        "Funding, EUR 6.4 million in all:\n- City: EUR 3.2 million\n- Fund: EUR 1.6 million\n- Bank: EUR 1.6 million\n",
        "Funding, EUR 6.4 million in all:\n- City: EUR 3.2 million\n- Fund: open\n",
        "Funding, EUR 6.4 million in all:\n\nEUR 5 million.",
        "- City: EUR 3.2 million\n- Fund: EUR 1.6 million\n- Total: EUR 4.8 million\n",
        "- Total: EUR 4.9 million\n- City: EUR 3.2 million\n",
        "| Item | EUR |\n|---|---|\n| A | 1,000 |\n| B | 2,000 |\n| Total costs | 3,000 |",
        "| Stalls | 32 |\n| Visits a day | 300 |\n| Total visits | 90,000 |",
        "| Item | 2027 | 2028 | Total |\n|---|---|---|---|\n| A | EUR 1,000 | EUR 500 | EUR 1,500 |",
        "| Item | Number | Price | Total |\n|---|---|---|---|\n| A | 3 | EUR 500 | EUR 1,500 |\n| B | x | EUR 1 | EUR 5 |",
        "| Item | Low | High | Total |\n|---|---|---|---|\n| A | 3 | 5 | 40 |",
        // In brackets.
        "The budget (EUR 40,000 + 60,000 = 100,000) is there",
        "Three parts (40, 60 and 20; 120 in all), and (EUR 40,000, 60,000 and 20,000, together 120,000)",
        "Stalls (21 fixed, 11 starters; 32 stalls in all), shares (in all 100%: 40%, 35% and 25%)",
        "(2 people, 3 days a week; 6 days in all) and (3 rooms, 2 days; 6 days in all)",
        "Three visits (12 May, 3 June and 9 July; 3 in all), (2027, 2028 and 2029; 3 in all)",
        "(40, 60 and 20 of 200; 120 in all), (40 to 60, 20; 90 in all), (40, 60; at least 90 in all)",
        "EUR 100,000 (EUR 40,000 + 60,000), 32 stalls (21 fixed + 11 starters), EUR 420,000 (1,400 m³ × EUR 300)",
        "EUR 850 (21 × 850 a month), phase 2 (3 + 4 tasks), by 2028 (5 + 3 weeks), EUR 110,000 (+ 10%)",
        "8 benches (4 + 2 hours a day), EUR 48,000 (40,000 + 20% VAT), EUR 850 a month (12 × 70 places)",
        "12 benches (8 - 10 weeks), EUR 420,000 (EUR 300 per m³ × 1,400 + 5), 5 (3 + a few), 15 staff (12 + 6 half days)",
        "EUR 3.2 million (city) and EUR 1.6 million (fund) are EUR 4.8 million together",
        "EUR 600,000 (EUR 45,000 for the pilot, EUR 20,000 for tests), EUR 5 (EUR 4, EUR 6)",
        "Funding, EUR 4.8 million in all:\n- City: EUR 3.2 million (EUR 1 million of it now)\n- Fund: EUR 1.6 million\n",
        "Funding, EUR 4.8 million in all:\n- City (EUR 3.2 million)\n- Fund (EUR 1.6 million)\n",
        "| Item | EUR |\n|---|---|\n| A | 1,000 (33%) |\n| B | 2,000 (67%) |\n| Total | 3,000 (100%) |",
        "((1 + 2) = 3 (4",
    ] {
        assert_eq!(faults(text), [""; 0], "{text}");
    }
}

#[test]
fn what_does_not_is_told_with_what_it_comes_to() {
    for (text, wanted) in [
        ("21 stalls × EUR 850 × 12 months = EUR 241,200", "comes to 214,200, not 241,200"),
        (
            "3.2 million + 1.6 million + 1.1 million + 0.5 million = 6.5 million",
            "comes to 6,400,000, not 6,500,000",
        ),
        ("EUR 3.2 + 1.6 + 1.1 + 0.5 million = EUR 6.3 million", "not 6,300,000"),
        ("200 × 3 = 600k", "off by a power of a thousand"),
        ("EUR 214 = 21 × EUR 850 × 12", "comes to 214,200, not 214"),
        ("11 of 32 stalls (43%)", "comes to 34.375%, not 43%"),
        ("1,400 m³ at EUR 300 per m³, EUR 240,000 in all", "comes to 420,000, not 240,000"),
        (
            "EUR 6.4 million in all: EUR 3.2 million from the city, EUR 1.6 million from the fund, EUR 1.1 million from a bank and EUR 0.6 million in shares",
            "comes to 6,500,000, not 6,400,000",
        ),
        ("EUR 1,680,000 + EUR 420,000 = EUR 2,000,000", "comes to 2,100,000, not 2,000,000"),
        ("40% + 35% + 20% = 100%", "comes to 95%, not 100%"),
        ("2,600 m² plus 1,600 m² makes 4,300 m²", "comes to 4,200, not 4,300"),
        ("1,237 × 9 = about 15,000", "comes to 11,133, not 15,000"),
        ("6 × 7 = 42, 42 + 1 = 44", "comes to 43, not 44"),
        ("It is dear. 12 + 12 = 25. It is late.", "comes to 24, not 25"),
        (
            "| Item | EUR |\n|---|---:|\n| Soil | 420,000 |\n| Roof | 1,680,000 |\n| **Total** | **2,200,000** |",
            "column 2 adds up to 2,100,000, not 2,200,000",
        ),
        (
            "| Item | Share |\n|---|---|\n| a | 33% |\n| b | 33% |\n| Total | 100% |",
            "column 2 adds up to 66%, not 100%",
        ),
        ("| a | 1 |\n| b | 2 |\n| Subtotal | 4 |", "adds up to 3, not 4"),
        ("25% of EUR 6.4 million is EUR 1.8 million", "comes to 1,600,000, not 1,800,000"),
        ("EUR 1.6 million (20% of EUR 6.4 million)", "comes to 1,280,000, not 1,600,000"),
        ("EUR 500,000, 20% of the budget of EUR 6.4 million", "comes to 1,280,000, not 500,000"),
        ("8% of the 90,000 visits is 9,000", "comes to 7,200, not 9,000"),
        ("A contingency of 10% on EUR 5.8 million is EUR 0.7 million.", "comes to 580,000"),
        ("half of EUR 6.4 million is EUR 3.5 million", "comes to 3,200,000"),
        ("two thirds of EUR 6 million is EUR 5 million", "comes to 4,000,000, not 5,000,000"),
        ("three fifths of EUR 50 is EUR 40", "comes to 30, not 40"),
        (
            "12345678901234567890123456789012345679 / 8 = 1",
            "comes to 1,543,209,862,654,320,986,265,432,098,626,543,209.875",
        ),
        ("visits rise from 60,000 to 90,000 (+40%)", "comes to 50%, not 40%"),
        ("costs fall by 30% from EUR 50 to EUR 40", "comes to 20%, not 30%"),
        ("21 stalls at EUR 850 a month for 12 months come to EUR 241,200 a year", "comes to 214,200"),
        (
            "32 stalls at EUR 850 a month come to EUR 27.2 million a month",
            "comes to 27,200, not 27,200,000: off by",
        ),
        ("8 benches at EUR 70,000 each make EUR 56,000.", "comes to 560,000"),
        ("4,200 m² at EUR 1,524 per m² are EUR 7.4m.", "comes to 6,400,800"),
        ("EUR 1,450 a month is EUR 17,000 a year.", "comes to 17,400"),
        (
            "North hall EUR 1,240,000 and south hall EUR 560,000, together EUR 1,900,000.",
            "comes to 1,800,000",
        ),
        ("Trusses EUR 1,680,000; floor EUR 390,000; in total EUR 2,170,000", "comes to 2,070,000"),
        ("Trusses EUR 1,680,000, floor EUR 390,000: EUR 2,170,000 in all.", "comes to 2,070,000"),
        ("12 months at EUR 850 a month, EUR 12,000 in all", "comes to 10,200, not 12,000"),
        ("EUR 850 a month over 24 months, EUR 24,000 in all", "comes to 20,400"),
        ("EUR 17,850 a month (EUR 241,200 a year)", "comes to 214,200, not 241,200"),
        ("EUR 214,200 a year, or EUR 18,750 a month", "comes to 17,850, not 18,750"),
        ("EUR 6.4 million less EUR 4.8 million leaves EUR 1.7 million", "comes to 1,600,000"),
        ("EUR 6.4 million divided by 32 stalls is EUR 20,000 a stall", "comes to 200,000, not 20,000"),
        ("EUR 3.2 million and EUR 1.6 million are EUR 5.0 million together", "comes to 4,800,000"),
        ("EUR 3.2 million and EUR 1.6 million add up to EUR 5.0 million", "comes to 4,800,000"),
        (
            "EUR 6.4 million, of which EUR 3.2 million from the city, EUR 1.6 million from the fund and EUR 1.9 million from the bank",
            "its parts come to 6,700,000, more than 6,400,000",
        ),
        (
            "Funding, EUR 6.4 million in all:\n\n- City: EUR 3.2 million\n- Fund: EUR 1.6 million\n- Bank: EUR 1.1 million",
            "comes to 5,900,000, not 6,400,000",
        ),
        (
            "- City: EUR 3.2 million\n- Fund: EUR 1.6 million\n- **Total**: EUR 4.9 million",
            "comes to 4,800,000",
        ),
        (
            "| Item | EUR |\n|---|---|\n| A | 1,000 |\n| B | 2,000 |\n| Total costs | 4,000 |",
            "column 2 adds up to 3,000, not 4,000",
        ),
        (
            "| Item | Cost |\n|---|---|\n| A | EUR 1,000 |\n| B | EUR 2,000 |\n| Total investment | EUR 4,000 |",
            "adds up to 3,000, not 4,000",
        ),
        (
            "| Item | 2027 | 2028 | Total |\n|---|---|---|---|\n| A | EUR 1,000 | EUR 500 | EUR 1,600 |",
            "the row adds up to 1,500, not 1,600",
        ),
        (
            "| Item | Number | Unit price | Total |\n|---|---|---|---|\n| A | 3 | EUR 500 | EUR 1,600 |",
            "the row comes to 1,500, not 1,600",
        ),
        // In brackets.
        ("The budget (EUR 40,000 + 60,000 = 110,000) is there", "comes to 100,000, not 110,000"),
        ("- **Pilot** (EUR 40,000 + 60,000 = 110,000)", "comes to 100,000, not 110,000"),
        ("It has three parts (40, 60 and 20; 130 in all).", "comes to 120, not 130"),
        ("Stalls (21 fixed, 11 starters; 33 in all)", "comes to 32, not 33"),
        ("Stalls (together 33: 21 and 11)", "comes to 32, not 33"),
        ("Shares (40%, 35% and 20%; 100% in all)", "comes to 95%, not 100%"),
        ("Parts (EUR 40,000, 60,000 and 20,000, together 130,000)", "comes to 120,000, not 130,000"),
        ("Parts (EUR 3.2 million, EUR 1.6 million; EUR 5 million in all)", "comes to 4,800,000"),
        ("Soil (1,400 m³ at EUR 300 per m³, EUR 240,000 in all) goes", "comes to 420,000"),
        ("The pilot costs EUR 110,000 (EUR 40,000 + 60,000).", "comes to 100,000, not 110,000"),
        ("There are 33 stalls (21 fixed + 11 starters).", "comes to 32, not 33"),
        ("| Soil | EUR 240,000 (1,400 m³ × EUR 300) |", "comes to 420,000, not 240,000"),
        (
            "EUR 3.2 million (city) and EUR 1.6 million (fund) are EUR 5 million together",
            "comes to 4,800,000",
        ),
        (
            "Funding, EUR 5 million in all:\n- City: EUR 3.2 million (EUR 1 million of it now)\n- Fund: EUR 1.6 million\n",
            "comes to 4,800,000",
        ),
        (
            "| Item | EUR |\n|---|---|\n| A | 1,000 (33%) |\n| B | 2,000 (67%) |\n| Total | 4,000 (100%) |",
            "adds up to 3,000",
        ),
        ("| a | 1 | 0.1 |\n| b | 2 | 0.2 |\n| Total | 3 | 0.4 |", "column 3 adds up to 0.3, not 0.4"),
    ] {
        let found = faults(text).join("\n");
        assert!(found.contains(wanted), "{text}: {found}");
    }
    assert_eq!(arithmetic("a\n\n1 + 1 = 3\n")[0].line, 3);
}

#[test]
fn odd_texts_break_nothing() {
    for text in [
        "= = =",
        "1 =",
        "= 1 + 1",
        "( ( ( 1 + = 2",
        "1 / 0 = 5",
        "€€€ = $",
        "|||\n|-|\n",
        "9".repeat(400).as_str(),
        "1 + ".repeat(4000).as_str(),
        // As long as an answer may be: what is read of it grows with it, and no faster.
        format!("- {}EUR 5\n- EUR 6\n| {} |", "()".repeat(500_000), "(5)".repeat(500_000)).as_str(),
        format!("- {}EUR 5\n- EUR 6\n| {} |", "(".repeat(500_000), ")".repeat(500_000)).as_str(),
        "(1 + 2) ".repeat(2_000).as_str(),
        "é × ü = ß 1 × 2 = 3ü",
    ] {
        let _ = arithmetic(text);
    }
}

/// Pieces in every order of three, some of them more than one byte a letter.
#[test]
fn no_order_of_pieces_breaks_it() {
    let pieces = [
        ". ", " | ", "=", "≈", "(", ")", " × ", "1,400", "3.2", "€", "EUR", " million", "%", " a ", ": ",
        "-", "é", "\n|",
    ];
    let all = pieces.len().pow(3);
    for n in 0..all {
        let order = (0u32..3).map(|place| pieces[n / pieces.len().pow(place) % pieces.len()]);
        let text: String = order.collect();
        let _ = arithmetic(&format!("1 + 2{text}3 × 4{text}5"));
    }
}

#[test]
fn a_table_row_ends_in_a_sentence() {
    assert_eq!(faults("| It stays. | 2 + 2 = 5. |"), ["comes to 4, not 5"]);
}

#[test]
fn a_month_is_counted_from_what_it_names() {
    let phases =
        vec![Phase { names: vec!["phase 2".into(), "construction".into()], start: date(2028, 5, 15) }];
    let calendar = Calendar { start: date(2027, 3, 1), phases };
    for text in [
        "Month 0 (2027-03-01), Month 27 (June 2029)",
        "Month 3 of phase 2 (August 2028)",
        "Month 3 of construction (15 August 2028)",
        "Month 3 of the moon (August 1969)",
        "Month 3 (of four)",
        "by Month 6, September 2027",
        "August 2028 (Month 3 of phase 2), then Month 6 = September 2027 and month 6, i.e. Q3 2027",
        "Phase 2, Month 3 (August 2028); **Construction** – Month 3: 2028-08-15",
        "Month 3 of phase two (15 Aug 2028) | Month 6 | 2027-09-01 |",
        "three months after the start of phase 2 (2028-08-15), 6 months after the start: September 2027",
        "Phase 7, Month 3 (May 1990); Month 3 of the moon, May 1990",
        "Months 3-5 of phase 2 (May to July 1990)",
        "By Month 6 the roof is closed; May 1990 was another time.",
        "Monday 1 March 2027, and on Monday, 2027-03-01",
    ] {
        assert_eq!(calendar.faults(text), [], "{text}");
    }
    for (text, wanted) in [
        ("Month 27 (July 2029)", "is 2029-06, 27 months from the start (2027-03-01)"),
        ("Month 3 of phase 2 (June 2027)", "is 2028-08, 3 months from the start of phase 2 (2028-05-15)"),
        ("Month 3 of construction (2028-09-15)", "is 2028-08"),
        ("in May 2027 (Month 3 of phase 2)", "is 2028-08"),
        ("Month 3 of phase 2: May 2027", "is 2028-08"),
        ("Month 3 of phase two – 1 May 2027", "is 2028-08"),
        ("month 27, i.e. July 2029", "is 2029-06"),
        ("Phase 2, Month 3 (June 2027)", "is 2028-08, 3 months from the start of Phase 2"),
        ("Month 3 of Construction (May 1, 2027)", "is 2028-08"),
        ("three months after the start of phase 2 (2027-06-01)", "is 2028-08"),
        ("Three months after the start of phase 2 (2027-06-01)", "is 2028-08"),
        ("Month 6 = Q4 2027", "is 2027-09"),
        ("| Month 6 | 2027-10-01 |", "is 2027-09"),
        ("on Tuesday, 1 March 2027", "is a Monday"),
    ] {
        let found = calendar.faults(text);
        assert!(found.iter().any(|fault| fault.message.contains(wanted)), "{text}: {found:?}");
    }
    // The start moves, and every month with it.
    let moved = Calendar { start: date(2027, 6, 1), ..calendar };
    assert_eq!(moved.faults("Month 0 (2027-03-01), Month 27 (June 2029)").len(), 2);
}

#[test]
fn a_number_that_no_fact_has_is_found() {
    let ledger = Ledger::read(&json!([
        {"id": "budget", "value": 6_412_000, "currency": "EUR"},
        {"id": "rent", "value": 850, "unit": "EUR/month"},
        {"id": "soil", "value": 14_000, "low": 9_000, "high": 22_000, "unit": "m³"},
        {"id": "share", "value": "34.4", "unit": "%"}
    ]))
    .unwrap();
    let found = |text: &str| -> Vec<String> {
        uncited(text, &ledger).into_iter().map(|fault| fault.message).collect()
    };
    for text in [
        "EUR 6.4 million, or EUR 6,412,000, or 6.41 million EUR; € 850 a month",
        "14,000 m³ of soil, at most 22,000 m³, 9,000 to 22,000 m³",
        "EUR 850 to 6,412,000 in all",
        "34% of the stalls, 34.4% of all",
        "32 stalls since 2024, open on 1 June 2029, 5,000 visits",
        "Nothing at all.",
    ] {
        assert_eq!(found(text), [""; 0], "{text}");
    }
    for (text, wanted) in [
        ("It costs EUR 6.5 million.", "no fact has EUR 6.5 million"),
        ("It costs EUR 6,400,000.", "no fact has EUR 6,400,000"),
        ("It costs USD 850.", "no fact has USD 850"),
        ("One.\n35% of the stalls", "no fact has 35%"),
        // A range is one claim.
        ("It may cost EUR 150,000 to 400,000 more.", "no fact has EUR 150,000 to 400,000"),
        ("It may cost EUR 850 to 900.", "no fact has EUR 850 to 900"),
        ("EUR 0.8 to 1.6 million, or the end", "no fact has EUR 0.8 to 1.6 million"),
        ("between EUR 150,000 and EUR 400,000", "no fact has EUR 150,000 and EUR 400,000"),
        ("150,000–400,000 EUR", "no fact has 150,000–400,000 EUR"),
        ("30 to 40% of the stalls", "no fact has 30 to 40%"),
        ("EUR 5 for 15,000 people", "no fact has EUR 5|no fact has 15,000"),
        ("EUR 500 to 1,200 members", "no fact has EUR 500"),
        ("15,000 m³", "no fact has 15,000"),
    ] {
        assert_eq!(found(text).join("|"), wanted, "{text}");
    }
}

#[test]
fn an_amount_that_a_fact_has_not_is_found_beside_its_name() {
    let ledger = Ledger::read(&json!([
        {"id": "budget", "name": "Budget", "value": 6_400_000, "currency": "EUR"},
        {"id": "soil", "name": "Soil clean-up", "value": 420_000, "currency": "EUR"},
        {"id": "rent", "name": "Rent", "value": 850, "unit": "EUR/month"}
    ]))
    .unwrap();
    let found = |text: &str| -> Vec<String> {
        misstated(text, &ledger).into_iter().map(|fault| fault.message).collect()
    };
    for text in [
        "The budget of EUR 6.4 million; the budget is EUR 420,000 in part",
        "The marketing budget of EUR 20,000, a budget of EUR 20,000, and the rent is EUR 900",
        "The budget of EUR 20,000 for tests. Soil clean-up costs EUR 150,000 more.",
        "| Soil clean-up | EUR 420,000 | 6 |",
        "The budget is USD 5, or EUR 6 million a year; budgets of EUR 7",
        "A EUR 20,000 budget, EUR 20,000 of budget, and the EUR 6.4 million budget",
        "The EUR 20,000 budget for tests, the EUR 20,000 budget-line, the EUR 20,000 budgets",
        "An extra EUR 30,000 soil clean-up; the USD 5 budget",
        "A budget of EUR 6 to 7 million: the budget is EUR 6 to 7 million",
    ] {
        assert_eq!(found(text), [""; 0], "{text}");
    }
    for (text, wanted) in [
        (
            "Of the budget of EUR 7.4 million half is there.",
            "EUR 6,400,000 is the figure of the plan, not this",
        ),
        ("**Budget**: EUR 6.4 billion", ": off by a power of a thousand"),
        ("One.\nIn all. The total budget is about EUR 6.5 million.", "EUR 6,400,000 is"),
        ("| Soil clean-up | EUR 240,000 |", "EUR 420,000 is"),
        ("Half of the EUR 7.4 million budget is there.", "EUR 6,400,000 is the figure of the plan"),
        ("The whole EUR 240,000 soil clean-up, by June.", "EUR 420,000 is"),
        ("For soil clean-up € 240,000 are set aside", "EUR 420,000 is"),
        ("The budget is EUR 7 to 8 million", "EUR 6,400,000 is"),
    ] {
        let found = found(text).join("\n");
        assert!(found.contains(wanted), "{text}: {found}");
    }
}

#[test]
fn the_line_that_has_an_amount_is_found() {
    let text = "One.\nEUR 0.3 million of 480,000 up to the permit, 34%\n| Pilot | 45,000 |\nEUR 150,000 a year\nEUR 0.15 to 0.4 million\n";
    for (amount, line) in [
        ("EUR 300,000", Some(2)),
        ("480,000", Some(2)),
        ("EUR 45,000", Some(3)),
        ("34%", Some(2)),
        // Not the line that has one of its ends.
        ("EUR 150,000 to 400,000", Some(5)),
        ("EUR 150,000", Some(4)),
        ("EUR 400,000", Some(5)),
        ("EUR 150,000 to 300,000", None),
        ("EUR 300,001", None),
        ("USD 300,000", None),
        ("0.34", None),
        ("nothing", None),
    ] {
        assert_eq!(line_with(text, amount), line, "{amount}");
    }
}
